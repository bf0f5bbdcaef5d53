//! Messages of an exec: the first byte says which channel the rest belongs to. Pure.
//!
//! | byte | channel | who | what |
//! |---|---|---|---|
//! | 0 | stdin | client | bytes |
//! | 1, 2 | stdout, stderr | server | bytes |
//! | 3 | status | server | `{"exit_code":N}` or `{"error":{problem}}`; nothing follows |
//! | 4 | resize | client | `{"columns":N,"rows":N}` |
//! | 255 | end | both | the number of the channel that ends |

use berth_proto::pb;
use berth_proto::pb::exec_input::{Eof, Input};
use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::problem::Problem;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;
const END: u8 = 255;

/// How the process ended, or why there is none any more.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Its exit code, 128 + n after signal n.
    ExitCode(i32),
    /// What went wrong.
    Error(Problem),
}

#[derive(Deserialize)]
struct Size {
    columns: u16,
    rows: u16,
}

/// What a client's message means.
pub fn read(message: Bytes) -> Result<Input, Problem> {
    let wrong = |what: String| Problem::bad_request(what).hint("the first byte of a message is its channel");
    match message.first() {
        Some(&STDIN) => Ok(Input::Stdin(message.slice(1..))),
        Some(&RESIZE) => {
            let size: Size = serde_json::from_slice(&message[1..])
                .map_err(|error| wrong(format!("a size is {{\"columns\":N,\"rows\":N}}: {error}")))?;
            Ok(Input::Resize(pb::TtySize { rows: size.rows.into(), columns: size.columns.into() }))
        }
        Some(&END) if message[1..] == [STDIN] => Ok(Input::StdinEof(Eof {})),
        Some(&END) => Err(wrong("only stdin (0) can be ended".to_owned())),
        Some(channel) => Err(wrong(format!("there is no channel {channel} to the process"))),
        None => Err(wrong("the message is empty".to_owned())),
    }
}

/// What a process wrote to stdout.
pub fn stdout(data: &[u8]) -> Bytes {
    on(STDOUT, data)
}

/// What a process wrote to stderr.
pub fn stderr(data: &[u8]) -> Bytes {
    on(STDERR, data)
}

/// The last message.
pub fn status(status: &Status) -> Bytes {
    on(STATUS, &serde_json::to_vec(status).expect("texts and numbers are JSON"))
}

fn on(channel: u8, data: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(1 + data.len());
    message.put_u8(channel);
    message.put_slice(data);
    message.freeze()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read_text(message: &'static [u8]) -> Result<Input, Problem> {
        read(Bytes::from_static(message))
    }

    #[test]
    fn a_client_speaks_on_its_channels_only() {
        assert_eq!(read_text(b"\0ls\n").unwrap(), Input::Stdin("ls\n".into()));
        assert_eq!(read_text(b"\0").unwrap(), Input::Stdin(Bytes::new()));
        let size = pb::TtySize { rows: 24, columns: 80 };
        assert_eq!(read_text(b"\x04{\"columns\":80,\"rows\":24}").unwrap(), Input::Resize(size));
        assert_eq!(read_text(b"\xff\0").unwrap(), Input::StdinEof(Eof {}));
        for wrong in [
            &b""[..],
            b"\x01out",
            b"\x02",
            b"\x03{}",
            b"\x04{}",
            b"\x04{\"columns\":-1,\"rows\":1}",
            b"\xff",
            b"\xff\x01",
            b"\xff\0\0",
            b"\x07",
        ] {
            assert!(read_text(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_last_message_is_json() {
        assert_eq!(&status(&Status::ExitCode(137))[..], b"\x03{\"exit_code\":137}");
        let error = status(&Status::Error(Problem::bad_request("no")));
        let value: serde_json::Value = serde_json::from_slice(&error[1..]).unwrap();
        assert_eq!((&value["error"]["status"], &value["error"]["detail"]), (&400.into(), &"no".into()));
        assert_eq!((&stdout(b"a")[..], &stderr(b"b")[..]), (&b"\x01a"[..], &b"\x02b"[..]));
    }
}
