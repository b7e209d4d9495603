//! The `florin` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    florin::panics::install();
    // Not locked: other threads log while a command runs.
    let code = florin::cli::run(std::env::args_os(), &mut std::io::stdout(), &mut std::io::stderr());
    ExitCode::from(code)
}
