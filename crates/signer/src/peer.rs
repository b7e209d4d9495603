//! Which users are at the two ends of a socket, as the kernel says. It must never take anybody's own word for it.

use std::os::unix::net::UnixStream;

/// The user that this process acts as.
pub fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The user at the other end: of a connection that was accepted, the one who connected; of one that was made, the one who
/// listens. `None` where the system has no way to ask that this build knows.
///
/// # Errors
/// Faults of the socket.
pub fn peer_user(stream: &UnixStream) -> std::io::Result<Option<u32>> {
    #[cfg(target_os = "linux")]
    return Ok(Some(rustix::net::sockopt::socket_peercred(stream)?.uid.as_raw()));
    #[cfg(not(target_os = "linux"))]
    return Ok(None).inspect(|_: &Option<u32>| drop(stream));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn both_ends_of_a_pair_of_ours_are_ours() {
        let folder = tempfile::tempdir().expect("a folder");
        let owner = folder.path().metadata().expect("it is there").uid();
        assert_eq!(own_user(), owner, "what this process makes is its own");
        let (one, other) = UnixStream::pair().expect("a pair");
        for end in [one, other] {
            let found = peer_user(&end).expect("the kernel says it");
            assert_eq!(found, cfg!(target_os = "linux").then_some(owner));
        }
    }
}
