//! Names of customers, shared by the interface's threads. Nothing of it is ever logged, and nothing of it is in the journal.

use crate::failure::Failure;
use florin_core::id::{CustomerId, LedgerTime};
use florin_engine::ports::Clock;
use florin_store::people::{InsertAnswer, People, Person};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The store of people behind a lock. Every call blocks.
pub struct PeopleStore {
    people: Mutex<People>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for PeopleStore {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("PeopleStore")
    }
}

impl PeopleStore {
    pub(super) fn new(people: People, clock: Arc<dyn Clock>) -> PeopleStore {
        PeopleStore { people: Mutex::new(people), clock }
    }

    fn lock(&self) -> MutexGuard<'_, People> {
        self.people.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a customer's name. One that is kept already stays: a repeated request does not rename anybody.
    ///
    /// # Errors
    /// The store's codes.
    pub fn put_name(&self, id: CustomerId, name: &str) -> Result<(), Failure> {
        let created = LedgerTime(self.clock.now_ms());
        let person = Person { name: name.to_owned(), email: String::new(), created };
        match self.lock().insert(id, &person) {
            Ok(InsertAnswer::Inserted | InsertAnswer::Exists) => Ok(()),
            Err(fault) => Err(Failure::new(fault.code(), "the name could not be kept").because(fault)),
        }
    }

    /// The names of customers, in the order of their ids.
    ///
    /// # Errors
    /// The store's codes.
    pub fn names(&self, ids: &[CustomerId]) -> Result<Vec<Option<String>>, Failure> {
        let mut people = self.lock();
        let name = |id: &CustomerId| people.get(*id).map(|found| found.map(|person| person.name));
        let names: Result<Vec<Option<String>>, _> = ids.iter().map(name).collect();
        names.map_err(|fault| Failure::new(fault.code(), "the names can't be read").because(fault))
    }
}
