//! Requests that say twice where their body ends: by `Content-Length` and by `Transfer-Encoding`. A proxy may believe one and this server the other, and what the one takes for a body
//! is a request to the other: somebody else's, with his token (RFC 9112, 6.1). The library below goes by the second and forgets the first, so that the bytes themselves are looked
//! at as they come in. It changes none of them.

use axum::http::Extensions;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const LENGTH: &[u8] = b"content-length:";
const ENCODING: &[u8] = b"transfer-encoding:";

/// Whether a connection's requests can be told apart.
#[derive(Debug, Clone, Default)]
pub(crate) struct Framing(Arc<AtomicBool>);

impl Framing {
    /// Whether a request on this connection gave both.
    pub(crate) fn is_ambiguous(extensions: &Extensions) -> bool {
        extensions.get::<Framing>().is_some_and(|framing| framing.0.load(Ordering::Relaxed))
    }
}

/// Lines as they come in. Between two empty ones is a head, or a piece of a body: no body that a handler takes has such lines in it.
#[derive(Debug, Default)]
struct Lines {
    /// How the line begins, in small letters.
    begin: Vec<u8>,
    has_length: bool,
    has_encoding: bool,
}

impl Lines {
    /// Takes bytes in; `true` where a head had both.
    fn take(&mut self, bytes: &[u8]) -> bool {
        let mut found = false;
        for byte in bytes {
            // To the last one: the lines behind a find count as well.
            found |= self.take_one(*byte);
        }
        found
    }

    fn take_one(&mut self, byte: u8) -> bool {
        if byte != b'\n' {
            if self.begin.len() < ENCODING.len() {
                self.begin.push(byte.to_ascii_lowercase());
            }
            return false;
        }
        if self.begin.is_empty() || self.begin == b"\r" {
            (self.has_length, self.has_encoding) = (false, false);
        }
        self.has_length |= self.begin.starts_with(LENGTH);
        self.has_encoding |= self.begin.starts_with(ENCODING);
        self.begin.clear();
        self.has_length && self.has_encoding
    }
}

/// A connection whose incoming bytes are looked at.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    stream: S,
    lines: Lines,
    framing: Framing,
}

impl<S> Watched<S> {
    pub(crate) fn new(stream: S, framing: Framing) -> Watched<S> {
        Watched { stream, lines: Lines::default(), framing }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, into))?;
        if self.lines.take(&into.filled()[before..]) {
            self.framing.0.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether both are found, however the bytes come in pieces.
    fn found(text: &str) -> bool {
        let whole = Lines::default().take(text.as_bytes());
        let mut lines = Lines::default();
        let found: Vec<bool> = text.as_bytes().chunks(3).map(|piece| lines.take(piece)).collect();
        let in_pieces = found.contains(&true);
        assert_eq!(whole, in_pieces, "{text:?}");
        whole
    }

    #[test]
    fn a_head_with_both_is_found_and_nothing_else() {
        let head = |headers: &str| format!("POST / HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        let (length, encoding) = ("Content-Length: 4\r\n", "Transfer-Encoding: chunked\r\n");
        assert!(found(&head(&format!("{length}{encoding}"))) && found(&head(&format!("{encoding}{length}"))));
        assert!(found(&head(&format!("{encoding}X: {}\r\n{length}", "y".repeat(9_000)))));
        assert!(
            found("POST / HTTP/1.1\ncontent-length:4\nTRANSFER-ENCODING:chunked\n\n"),
            "bare line feeds end lines, too"
        );
        assert!(!found(&head(length)) && !found(&head(encoding)) && !found(&head(&format!("{length}{length}"))));
        assert!(!found(&format!("{}{{}}{}0\r\n\r\n", head(length), head(encoding))), "two requests, each with one");
        assert!(!found(&head("X-Content-Length: 4\r\nTransfer-Encoding: chunked\r\n")));
        assert!(found(&format!("{}{{}}{}", head(length), head(&format!("{length}{encoding}")))));
    }
}
