//! The `mailbearer` program: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    mailbearer::cli::main()
}
