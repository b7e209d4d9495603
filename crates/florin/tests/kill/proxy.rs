//! A line to the database that can be cut at the one moment that matters: around the append of a journal row. It forwards
//! bytes and never makes any.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Where the line is cut. Each leaves the writer with an append of unknown fate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cut {
    /// The request never arrives: the row is not in.
    BeforeRequest,
    /// Half of the request arrives: the row is not in.
    WithinRequest,
    /// The request arrives and its answer does not: the row is in.
    BeforeAnswer,
    /// The writer hears nothing, and the request arrives later, when it was sent again: the row is in already.
    RequestArrivesLate,
}

impl Cut {
    pub const ALL: [Cut; 4] = [Cut::BeforeRequest, Cut::WithinRequest, Cut::BeforeAnswer, Cut::RequestArrivesLate];
}

/// How late a late request arrives: after the writer's first repetitions, which come after some tens of milliseconds.
const LATE: Duration = Duration::from_millis(400);

/// The command byte of a prepared statement's execution (MariaDB client/server protocol, `COM_STMT_EXECUTE`).
const EXECUTE: u8 = 0x17;

#[derive(Default)]
struct Shared {
    next: Mutex<Option<Cut>>,
    done: Mutex<BTreeMap<Cut, u32>>,
    is_ending: AtomicBool,
}

/// The line.
pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    pub fn start(server: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        let shared = Arc::new(Shared::default());
        let (server, accepting) = (server.to_owned(), Arc::clone(&shared));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if accepting.is_ending.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(client) = client else { continue };
                // Without a server the connection ends, as it would without the line.
                let Ok(server) = TcpStream::connect(&server) else { continue };
                join(client, server, &accepting);
            }
        });
        Proxy { address, shared }
    }

    /// The next append of a journal row is cut like this.
    pub fn cut_next(&self, cut: Cut) {
        *self.shared.next.lock().expect("nobody panics") = Some(cut);
    }

    /// How often the line was cut in each way.
    pub fn cuts(&self) -> BTreeMap<Cut, u32> {
        self.shared.done.lock().expect("nobody panics").clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.is_ending.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn join(client: TcpStream, server: TcpStream, shared: &Arc<Shared>) {
    let _ = client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
    let (Ok(client_too), Ok(server_too)) = (client.try_clone(), server.try_clone()) else { return };
    let is_answer_lost = Arc::new(AtomicBool::new(false));
    let (shared, lost) = (Arc::clone(shared), Arc::clone(&is_answer_lost));
    // Whoever ends first ends both: neither side shall wait for one that is gone.
    std::thread::spawn(move || {
        let _ = requests(&client, &server, &shared, &is_answer_lost);
        end(&client, &server);
    });
    std::thread::spawn(move || {
        let _ = answers(&server_too, &client_too, &lost);
        end(&client_too, &server_too);
    });
}

fn end(one: &TcpStream, other: &TcpStream) {
    let _ = one.shutdown(Shutdown::Both);
    let _ = other.shutdown(Shutdown::Both);
}

fn holds(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

/// Carries requests. The connection that has prepared the journal's insert is the writer's.
fn requests(
    mut client: &TcpStream,
    mut server: &TcpStream,
    shared: &Shared,
    is_answer_lost: &AtomicBool,
) -> std::io::Result<()> {
    let mut bytes = vec![0; 4 << 20];
    let mut is_writer = false;
    loop {
        let size = client.read(&mut bytes)?;
        if size == 0 {
            return Ok(());
        }
        let request = &bytes[..size];
        is_writer |= holds(request, b"INSERT INTO journal");
        // An insert carries two hashes and a payload; a look at a row carries a number.
        let is_append = is_writer && size > 100 && request[4] == EXECUTE;
        let cut = if is_append { shared.next.lock().expect("nobody panics").take() } else { None };
        let Some(cut) = cut else {
            server.write_all(request)?;
            continue;
        };
        *shared.done.lock().expect("nobody panics").entry(cut).or_default() += 1;
        match cut {
            Cut::BeforeRequest => {}
            Cut::WithinRequest => server.write_all(&request[..size / 2])?,
            Cut::BeforeAnswer => {
                is_answer_lost.store(true, Ordering::SeqCst);
                server.write_all(request)?;
                continue;
            }
            Cut::RequestArrivesLate => {
                client.shutdown(Shutdown::Both)?;
                std::thread::sleep(LATE);
                server.write_all(request)?;
                // The server answers before it learns that nobody listens.
                let _ = server.set_read_timeout(Some(LATE));
                let _ = server.read(&mut bytes);
            }
        }
        return Ok(());
    }
}

fn answers(mut server: &TcpStream, mut client: &TcpStream, is_lost: &AtomicBool) -> std::io::Result<()> {
    let mut bytes = vec![0; 1 << 20];
    loop {
        let size = server.read(&mut bytes)?;
        if size == 0 || is_lost.load(Ordering::SeqCst) {
            return Ok(());
        }
        client.write_all(&bytes[..size])?;
    }
}
