//! The signer's socket: one request, one answer, one connection at a time. It must never wait for ever, read without a
//! bound, answer when memory failed, or answer a user whom the policy does not name.

use crate::peer::{own_user, peer_user};
use crate::policy::Callers;
use crate::protocol::{Refused, Reply, Request};
use crate::refusal::Refusal;
use crate::session::{Fault, Signer};
use florin_core::id::LedgerTime;
use florin_core::wire::Message;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Largest frame: the largest PSBT that is read, and two mebibytes for all else: 250 payments with intents and 64 approvals each take
/// most of it. The length goes before it, as four big-endian bytes.
pub const FRAME_SIZE_MAX: usize = florin_chain::bitcoin::psbt::PSBT_SIZE_MAX + (2 << 20);

/// How long one connection may take to send its request, and again to take its answer. The next caller waits meanwhile.
pub const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a frame did not come or go.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The peer announced more than [`FRAME_SIZE_MAX`] bytes.
    #[error("a frame of {size} bytes is too long")]
    TooLong {
        /// What it announced.
        size: usize,
    },
    /// The peer closed before the frame was whole.
    #[error("the connection was closed inside a frame")]
    Closed,
    /// It took too long.
    #[error("the peer took too long")]
    Timeout,
    /// The connection failed.
    #[error("the connection failed")]
    Io(#[source] std::io::Error),
}

impl FrameError {
    /// The stable code of this fault.
    pub fn code(&self) -> &'static str {
        match self {
            FrameError::TooLong { .. } => "frame_too_long",
            FrameError::Closed => "frame_closed",
            FrameError::Timeout => "frame_timeout",
            FrameError::Io(_) => "frame_io",
        }
    }
}

/// Why the server ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The signer can't go on; the process must end and be started again.
    #[error("the signer can't go on")]
    Signer(#[from] Fault),
    /// No more connections can be accepted.
    #[error("the signer's socket failed")]
    Socket(#[source] std::io::Error),
}

impl ServeError {
    /// The stable code of this fault.
    pub fn code(&self) -> &'static str {
        match self {
            ServeError::Signer(error) => error.code(),
            ServeError::Socket(_) => "socket_failed",
        }
    }
}

/// The machine's clock.
pub fn system_clock() -> LedgerTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    LedgerTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// What a server is told to stop by, from any thread. It reaches a server that waits, whatever has become of its socket's name.
#[derive(Debug)]
pub struct Stop {
    told: UnixStream,
    seen: UnixStream,
}

impl Stop {
    /// One that nobody was told by yet.
    ///
    /// # Errors
    /// Where the process can't have two more descriptors.
    pub fn new() -> std::io::Result<Stop> {
        UnixStream::pair().map(|(told, seen)| Stop { told, seen })
    }

    /// Has the server stop before its next request. It stays said.
    ///
    /// # Errors
    /// Where the system does not close a descriptor.
    pub fn tell(&self) -> std::io::Result<()> {
        // The other end can be read from then on, for ever: it is at its end.
        self.told.shutdown(Shutdown::Write)
    }
}

/// The signer's end of its socket.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    callers: Callers,
    stranger: fn(u32),
}

impl Listener {
    /// Hears of each user who reached the socket and is not answered.
    #[must_use]
    pub fn telling(self, stranger: fn(u32)) -> Listener {
        Listener { stranger, ..self }
    }

    /// Whether whoever made this connection is answered. Where the system can't say who that is, the socket's mode alone
    /// decides.
    fn admits(&self, stream: &UnixStream) -> std::io::Result<bool> {
        let Some(user) = peer_user(stream)? else { return Ok(true) };
        let admitted = self.callers.admits(user, own_user());
        if !admitted {
            (self.stranger)(user);
        }
        Ok(admitted)
    }
}

/// Makes the socket at `path`, with its mode from its first moment: 600, or 660 and the group of the callers where they
/// have one. A socket that nobody listens on is replaced.
///
/// # Errors
/// `AddrInUse` when somebody listens there, or something else stands there; `PermissionDenied` also where this user is not a
/// member of the group; faults of the file system.
pub fn bind(path: &Path, callers: Callers) -> std::io::Result<Listener> {
    if let Ok(metadata) = path.symlink_metadata() {
        let socket = std::os::unix::fs::FileTypeExt::is_socket(&metadata.file_type());
        if !socket || UnixStream::connect(path).is_ok() {
            return Err(ErrorKind::AddrInUse.into());
        }
    }
    // A socket's mode can't be given when it is made; so it is made where nobody else can look, and moved.
    let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
    let mut folder_name = name.to_owned();
    folder_name.push(format!(".{}.new", std::process::id()));
    let folder = path.with_file_name(folder_name);
    // What a crash at this place left behind; both calls remove nothing else.
    let _ = std::fs::remove_file(folder.join("s")).and_then(|()| std::fs::remove_dir(&folder));
    std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
    let made = make_socket(&folder.join("s"), path, callers);
    std::fs::remove_dir_all(&folder)?;
    Ok(Listener { socket: made?, callers, stranger: |_| () })
}

fn make_socket(draft: &Path, path: &Path, callers: Callers) -> std::io::Result<UnixListener> {
    let listener = UnixListener::bind(draft)?;
    // It is asked only when somebody is there, and never waits for one who is gone again.
    listener.set_nonblocking(true)?;
    // The group first: no other group is to have the wider mode.
    if let Some(group) = callers.group {
        std::os::unix::fs::chown(draft, None, Some(group))?;
    }
    let mode = if callers.group.is_some() { 0o660 } else { 0o600 };
    std::fs::set_permissions(draft, std::fs::Permissions::from_mode(mode))?;
    std::fs::rename(draft, path)?;
    Ok(listener)
}

/// Waits for the next connection; there is none once it was told to stop.
fn next(listener: &Listener, stop: &Stop) -> std::io::Result<Option<UnixStream>> {
    loop {
        let mut waited = [PollFd::new(&stop.seen, PollFlags::IN), PollFd::new(&listener.socket, PollFlags::IN)];
        match poll(&mut waited, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(fault) => return Err(fault.into()),
        }
        if !waited[0].revents().is_empty() {
            return Ok(None);
        }
        match listener.socket.accept() {
            Ok((stream, _)) => {
                // Some systems hand the listener's mode on. The timeouts need one that waits.
                stream.set_nonblocking(false)?;
                return Ok(Some(stream));
            }
            // Whoever connected is gone again.
            Err(fault) if is_passing(fault.kind()) => {}
            Err(fault) => return Err(fault),
        }
    }
}

fn is_passing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Interrupted | ErrorKind::ConnectionAborted | ErrorKind::WouldBlock)
}

/// Answers requests until it is told to stop, or until memory or socket fail.
///
/// # Errors
/// [`ServeError`]. After a fault of the signer no reply was sent: the caller asks again once the signer is back, and gets the
/// same bytes if they were recorded.
pub fn serve(
    listener: &Listener,
    signer: &mut Signer,
    clock: impl Fn() -> LedgerTime,
    stop: &Stop,
) -> Result<(), ServeError> {
    while let Some(mut stream) = next(listener, stop).map_err(ServeError::Socket)? {
        // A stranger gets no answer, and not even its request is read; nor does one who can't be told any more.
        if !listener.admits(&stream).unwrap_or(false) {
            continue;
        }
        let reply = match read_frame(&mut stream, Instant::now() + CONNECTION_TIMEOUT) {
            Ok(request) => answer(signer, &request, clock())?,
            Err(FrameError::TooLong { .. }) => refuse(signer),
            // Who hangs up or dawdles gets no answer and harms nobody but itself.
            Err(FrameError::Closed | FrameError::Timeout | FrameError::Io(_)) => continue,
        };
        // A caller that is gone asks again.
        let _ = write_frame(&mut stream, &reply.encode(), Instant::now() + CONNECTION_TIMEOUT);
    }
    Ok(())
}

fn answer(signer: &mut Signer, request: &[u8], clock: LedgerTime) -> Result<Reply, Fault> {
    match Request::decode(request) {
        Ok(request) => signer.handle(&request, clock),
        Err(_) => Ok(refuse(signer)),
    }
}

fn refuse(signer: &Signer) -> Reply {
    signer.reply(crate::protocol::Outcome::Refused(Refused::whole(Refusal::RequestInvalid)))
}

/// Reads one frame before `deadline`.
pub(crate) fn read_frame(stream: &mut UnixStream, deadline: Instant) -> Result<Vec<u8>, FrameError> {
    let mut length = [0u8; 4];
    read_all(stream, &mut length, deadline)?;
    let size = u32::from_be_bytes(length) as usize;
    if size > FRAME_SIZE_MAX {
        return Err(FrameError::TooLong { size });
    }
    // Room grows with what arrives, and not with what was announced.
    let mut frame = Vec::new();
    while frame.len() < size {
        let start = frame.len();
        frame.resize(size.min(start + 64 * 1024), 0);
        read_all(stream, &mut frame[start..], deadline)?;
    }
    Ok(frame)
}

/// Writes one frame before `deadline`.
pub(crate) fn write_frame(stream: &mut UnixStream, frame: &[u8], deadline: Instant) -> Result<(), FrameError> {
    if frame.len() > FRAME_SIZE_MAX {
        return Err(FrameError::TooLong { size: frame.len() });
    }
    let mut bytes = (frame.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(frame);
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        stream.set_write_timeout(Some(left(deadline)?)).map_err(FrameError::Io)?;
        match stream.write(rest) {
            Ok(0) => return Err(FrameError::Closed),
            Ok(count) => rest = &rest[count..],
            Err(error) => interpret(error)?,
        }
    }
    Ok(())
}

fn read_all(stream: &mut UnixStream, buffer: &mut [u8], deadline: Instant) -> Result<(), FrameError> {
    let mut filled = 0;
    while filled < buffer.len() {
        stream.set_read_timeout(Some(left(deadline)?)).map_err(FrameError::Io)?;
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => return Err(FrameError::Closed),
            Ok(count) => filled += count,
            Err(error) => interpret(error)?,
        }
    }
    Ok(())
}

fn left(deadline: Instant) -> Result<Duration, FrameError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(FrameError::Timeout) } else { Ok(left) }
}

fn interpret(error: std::io::Error) -> Result<(), FrameError> {
    match error.kind() {
        ErrorKind::Interrupted => Ok(()),
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Err(FrameError::Timeout),
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof => Err(FrameError::Closed),
        _ => Err(FrameError::Io(error)),
    }
}
