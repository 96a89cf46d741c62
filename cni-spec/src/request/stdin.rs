//! Reading stdin: the network configuration's bytes, bounded.

use super::Refusal;
use crate::{
    error::{CniError, ErrorCode},
    version::SpecVersion,
};
use std::io::Read;

/// Bytes of configuration that are read at most. etcd's limit for an object, whose annotations may be passed on, is 1.5 MB.
const LARGEST: u64 = 8 << 20;

/// Reads the configuration. For VERSION and without CNI_COMMAND it need not be called (V1, G2).
///
/// # Errors
/// Code 5 where reading fails (G8) or there is more than 8 MiB.
pub fn read_stdin(input: impl Read) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::with_capacity(4096);
    let error = match input.take(LARGEST + 1).read_to_end(&mut bytes) {
        Ok(_) if bytes.len() as u64 <= LARGEST => return Ok(bytes),
        Ok(_) => CniError::new(
            ErrorCode::Io,
            format!("read stdin: network configuration of more than {LARGEST} bytes"),
        ),
        Err(cause) => CniError::new(ErrorCode::Io, "read stdin: network configuration")
            .with_details(cause.to_string()),
    };
    Err(Refusal {
        error,
        version: SpecVersion::NEWEST,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken;

    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::from_raw_os_error(5))
        }
    }

    #[test]
    fn g8_a_failing_stdin_is_code_5() {
        assert_eq!(
            read_stdin(Broken).expect_err("broken").error.code,
            ErrorCode::Io
        );
        assert_eq!(
            read_stdin(std::io::repeat(b' '))
                .expect_err("endless")
                .error
                .code,
            ErrorCode::Io
        );
    }

    #[test]
    fn all_of_stdin_is_read() {
        let text = vec![b'x'; 100_000];
        assert_eq!(read_stdin(&text[..]).expect("readable"), text);
    }
}
