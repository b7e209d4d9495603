//! Who a customer is: the only place with names. Nothing about money is here, and nothing here is in the journal, so erasing a
//! row erases the person.

use crate::database::{Database, Schema};
use crate::fault::StoreFault;
use crate::maria::MariaServer;
use crate::record::{Cell, NUMBER_MAX};
use crate::sqlite::{self, Durability};
use florin_core::id::{CustomerId, LedgerTime};
use std::path::Path;

/// The file's name within a platform's folder.
pub const FILE: &str = "people.sqlite3";

/// The most characters of a name or an address, of which RFC 5321 allows 254.
pub const TEXT_CHARACTERS_MAX: usize = 255;

const SCHEMA: Schema = Schema {
    component: "people",
    steps: &["CREATE TABLE IF NOT EXISTS customers (
        id BYTES16 NOT NULL PRIMARY KEY, name NAMETEXT NOT NULL, email NAMETEXT NOT NULL, created NUMBER NOT NULL
    ) TABLE_END"],
    page_bytes: 4_096,
};

/// A person. Not shown by `Debug`: names have no place in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Person {
    /// The name.
    pub name: String,
    /// The mail address.
    pub email: String,
    /// When the record was made.
    pub created: LedgerTime,
}

impl std::fmt::Debug for Person {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Person").field("created", &self.created).finish_non_exhaustive()
    }
}

/// What became of a new record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InsertAnswer {
    /// It stands.
    Inserted,
    /// A record with this id stood before and still does.
    Exists,
}

/// What became of a record that was to be erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EraseAnswer {
    /// It is gone.
    Erased,
    /// There was none.
    Absent,
}

/// The people.
#[derive(Debug)]
pub struct People {
    database: Database,
}

impl People {
    /// In a SQLite file. Its free pages are overwritten, so that an erased name is gone from the file too.
    ///
    /// # Errors
    /// Where the file can't be opened.
    pub fn open_sqlite(path: &Path) -> Result<People, StoreFault> {
        let connection = sqlite::open_writer(path, &SCHEMA, Durability::Full)?;
        sqlite::run_to_end(&connection, "PRAGMA secure_delete = ON", |_| Ok(()))?;
        Ok(People { database: Database::Sqlite(connection) })
    }

    /// In a database of their own on a MariaDB server.
    ///
    /// # Errors
    /// Where the server can't be reached.
    pub fn open_maria(server: &MariaServer) -> Result<People, StoreFault> {
        Ok(People { database: Database::Maria(Box::new(server.connect("people", &SCHEMA)?)) })
    }

    /// Adds a person.
    ///
    /// # Errors
    /// [`StoreFault::OutOfRange`] for a text of more than [`TEXT_CHARACTERS_MAX`]; any fault of the database.
    pub fn insert(&mut self, id: CustomerId, person: &Person) -> Result<InsertAnswer, StoreFault> {
        let long = |text: &str| text.chars().count() > TEXT_CHARACTERS_MAX;
        if long(&person.name) || long(&person.email) || person.created.0 > NUMBER_MAX {
            return Err(StoreFault::OutOfRange { what: "a person's record" });
        }
        let inserted = self.database.execute(
            "INSERT INTO customers (id, name, email, created) SELECT ?, ?, ?, ? FROM (SELECT 1) AS one
             WHERE NOT EXISTS (SELECT 1 FROM customers WHERE id = ?)",
            vec![
                Cell::bytes(&id.0),
                Cell::Text(person.name.clone()),
                Cell::Text(person.email.clone()),
                Cell::Number(person.created.0),
                Cell::bytes(&id.0),
            ],
        )?;
        Ok(if inserted == 1 { InsertAnswer::Inserted } else { InsertAnswer::Exists })
    }

    /// Looks a person up.
    ///
    /// # Errors
    /// Any fault of the database.
    pub fn get(&mut self, id: CustomerId) -> Result<Option<Person>, StoreFault> {
        let sql = "SELECT name, email, created FROM customers WHERE id = ?";
        let Some(mut row) = self.database.query("customers", sql, vec![Cell::bytes(&id.0)])?.into_iter().next() else {
            return Ok(None);
        };
        let (name, email) = (row.text("name")?, row.text("email")?);
        Ok(Some(Person { name, email, created: LedgerTime(row.number("created")?) }))
    }

    /// Erases a person. The ledger keeps its opaque id, which then leads to nobody.
    ///
    /// # Errors
    /// Any fault of the database. In SQLite [`StoreFault::Busy`] where a reader keeps the log in use: then the row is gone,
    /// and its text leaves the log with a later erasure or the next start.
    pub fn erase(&mut self, id: CustomerId) -> Result<EraseAnswer, StoreFault> {
        let erased = self.database.execute("DELETE FROM customers WHERE id = ?", vec![Cell::bytes(&id.0)])?;
        if let Database::Sqlite(connection) = &self.database {
            sqlite::settle(connection)?;
        }
        Ok(if erased == 1 { EraseAnswer::Erased } else { EraseAnswer::Absent })
    }
}
