//! slash32-agent: all of it is in the library beside this file, which the fuzz targets use too.

use std::process::ExitCode;

fn main() -> ExitCode {
    node_agent::main()
}
