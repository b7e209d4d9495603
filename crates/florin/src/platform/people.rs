//! Names of customers, shared by the interface's threads. Nothing of it is ever logged, and nothing of it is in the journal.

use crate::failure::Failure;
use florin_core::id::{CustomerId, LedgerTime};
use florin_engine::ports::Clock;
use florin_store::fault::StoreFault;
use florin_store::people::{InsertAnswer, People, Person};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What stands in the place of a name that was forgotten: no customer is named so. Without it an opening that is asked for again, long after
/// it was done, would keep the name a second time.
const FORGOTTEN: &str = "";

/// What became of a name that was to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameAnswer {
    /// It is kept.
    Kept,
    /// The customer's name was erased, and stays so.
    Forgotten,
    /// Another name is kept.
    Other,
}

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

    fn person(&self, name: &str) -> Person {
        Person { name: name.to_owned(), email: String::new(), created: LedgerTime(self.clock.now_ms()) }
    }

    /// Keeps a customer's name. One that is kept already stays: a repeated request does not rename anybody, and brings back no name that was
    /// forgotten.
    ///
    /// # Errors
    /// The store's codes.
    pub fn put_name(&self, id: CustomerId, name: &str) -> Result<NameAnswer, Failure> {
        let failed = |fault: StoreFault| Failure::new(fault.code(), "the name could not be kept").because(fault);
        let mut people = self.lock();
        if people.insert(id, &self.person(name)).map_err(failed)? == InsertAnswer::Inserted {
            return Ok(NameAnswer::Kept);
        }
        let kept = people.get(id).map_err(failed)?.map_or_else(String::new, |person| person.name);
        Ok(match kept.as_str() {
            FORGOTTEN => NameAnswer::Forgotten,
            kept if kept == name => NameAnswer::Kept,
            _ => NameAnswer::Other,
        })
    }

    /// Erases a customer's name, whether there is one or not, and keeps in its place that it is forgotten. Erased is what is in the table: a
    /// database's own logs and every backup are its administrator's.
    ///
    /// # Errors
    /// The store's codes. Then nobody knows whether the name is gone from the disk: ask again.
    pub fn forget_name(&self, id: CustomerId) -> Result<(), Failure> {
        let failed = |fault: StoreFault| Failure::new(fault.code(), "the name could not be erased").because(fault);
        let mut people = self.lock();
        // One after the other: between both there is no name, and whoever got no answer asks again.
        people.erase(id).map_err(failed)?;
        match people.insert(id, &self.person(FORGOTTEN)).map_err(failed)? {
            InsertAnswer::Inserted => Ok(()),
            InsertAnswer::Exists => {
                Err(Failure::new("store_conflict", "another node keeps a name of this customer").hint("ask again"))
            }
        }
    }

    /// The names of customers, in the order of their ids.
    ///
    /// # Errors
    /// The store's codes.
    pub fn names(&self, ids: &[CustomerId]) -> Result<Vec<Option<String>>, Failure> {
        let mut people = self.lock();
        let name = |id: &CustomerId| {
            people.get(*id).map(|found| found.map(|person| person.name).filter(|name| name != FORGOTTEN))
        };
        let names: Result<Vec<Option<String>>, _> = ids.iter().map(name).collect();
        names.map_err(|fault| Failure::new(fault.code(), "the names can't be read").because(fault))
    }
}
