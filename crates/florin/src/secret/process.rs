//! Keeps a process that handles secrets from being written out or read by others. It must never let such a process go on where the system
//! refuses that.

use crate::failure::Failure;
use rustix::process::{Resource, Rlimit, setrlimit};

/// From now on the system writes no core file of this process, hands none to a program that collects them, and lets no other process of the same
/// user read its memory: it comes before the first secret.
///
/// # Errors
/// `process_exposed`.
pub fn keep_to_itself() -> Result<(), Failure> {
    // Both: the limit is not asked where core files go to a program, and whether the process can be dumped is known to Linux alone.
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).map_err(exposed)?;
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable).map_err(exposed)?;
    Ok(())
}

fn exposed(fault: rustix::io::Errno) -> Failure {
    Failure::new("process_exposed", "the system does not let this process keep its memory to itself")
        .because(std::io::Error::from(fault))
        .hint("nothing was asked and no key was opened; look at what confines this process, as systemd or a container may")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_secrets_is_not_dumped() {
        keep_to_itself().expect("this system can do it");
        let limit = rustix::process::getrlimit(Resource::Core);
        assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
        #[cfg(target_os = "linux")]
        assert_eq!(rustix::process::dumpable_behavior().ok(), Some(rustix::process::DumpableBehavior::NotDumpable));
        let failure = exposed(rustix::io::Errno::PERM);
        assert_eq!(failure.code(), "process_exposed");
        // A second time it is no fault.
        keep_to_itself().expect("it is so already");
    }
}
