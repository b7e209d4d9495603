//! All SQL: journal, snapshots, projections, people; SQLite and MariaDB behind one port.
