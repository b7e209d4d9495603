//! The engine's side of the signer's socket: ask once, wait a bounded time. It must never decide what an answer means.

use crate::peer::peer_user;
use crate::protocol::{Reply, Request};
use crate::server::{FrameError, read_frame, write_frame};
use florin_core::wire::{Message, WireError};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Why no answer came. Whether the request was carried out is unknown then; asking again is always safe.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens, or not to us.
    #[error("the signer can't be reached")]
    Unreachable(#[source] std::io::Error),
    /// The connection could not be made in time.
    #[error("the signer does not take the connection")]
    ConnectTimeout,
    /// Sending or receiving failed; a signer whose memory failed closes without an answer.
    #[error("the signer gave no answer")]
    Frame(#[from] FrameError),
    /// The answer is not a message of this protocol.
    #[error("the signer's answer can't be read")]
    Reply(#[from] WireError),
}

impl ClientError {
    /// The stable code of this fault.
    pub fn code(&self) -> &'static str {
        match self {
            ClientError::Unreachable(_) => "signer_unreachable",
            ClientError::ConnectTimeout => "signer_connect_timeout",
            ClientError::Frame(error) => error.code(),
            ClientError::Reply(error) => error.code(),
        }
    }
}

/// A way to a signer. It holds no connection: each question makes its own.
#[derive(Debug, Clone)]
pub struct Client {
    path: PathBuf,
    timeout: Duration,
}

impl Client {
    /// A client of the socket at `path` that waits `timeout` for a connection and again for the answer.
    pub fn new(path: PathBuf, timeout: Duration) -> Client {
        Client { path, timeout }
    }

    /// Asks once.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn ask(&self, request: &Request) -> Result<Reply, ClientError> {
        let mut stream = self.connect()?;
        let deadline = Instant::now() + self.timeout;
        write_frame(&mut stream, &request.encode(), deadline)?;
        Ok(Reply::decode(&read_frame(&mut stream, deadline)?)?)
    }

    /// The user who listens at the socket; where the system can't say it, the user whose file the socket is.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`], [`ClientError::ConnectTimeout`].
    pub fn signer_user(&self) -> Result<u32, ClientError> {
        match peer_user(&self.connect()?).map_err(ClientError::Unreachable)? {
            Some(user) => Ok(user),
            None => Ok(self.path.metadata().map_err(ClientError::Unreachable)?.uid()),
        }
    }

    /// Connecting to a socket blocks while its queue is full, and the standard library has no bound for that: a thread
    /// waits in our stead, and ends when the socket goes or takes the connection.
    fn connect(&self) -> Result<UnixStream, ClientError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let path = self.path.clone();
        std::thread::spawn(move || sender.send(UnixStream::connect(path)));
        match receiver.recv_timeout(self.timeout) {
            Ok(connected) => connected.map_err(ClientError::Unreachable),
            Err(_) => Err(ClientError::ConnectTimeout),
        }
    }
}
