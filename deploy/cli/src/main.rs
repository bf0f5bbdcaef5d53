//! Entry point of `berth`; everything else is in the library, where tests reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    berth::cli::main()
}
