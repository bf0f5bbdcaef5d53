//! The terminal in raw mode, and back on drop.

use std::io;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use berth_proto::pb::TtySize;

/// The terminal passes every key through while this lives.
#[derive(Debug)]
pub struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Puts stdin's terminal into raw mode.
    pub fn enter() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// The size of stdout's terminal, where it is one.
pub fn size() -> Option<TtySize> {
    let size = tcgetwinsize(io::stdout()).ok()?;
    (size.ws_row > 0).then(|| TtySize { rows: size.ws_row.into(), columns: size.ws_col.into() })
}
