//! The whole platform as processes that are killed: `florin serve` and `florin signer serve` under load, on SQLite and on
//! MariaDB. Nothing that was acknowledged may be lost, and nothing may happen twice. It never looks into a running process:
//! it knows what the interface answered, what lies on the disks, and what the chain says.

mod chaos;
mod check;
mod full;
mod load;
mod maria;
mod process;
mod projection;
mod proxy;
mod pruned;
mod second;
mod site;
mod stopped;
