//! What an import says is wrong, and texts that are not even text.

use super::position::Cursor;
use std::fmt;

/// Errors after which an import gives up, or, if it is to keep going, tells no more.
pub const MAX_ERRORS: usize = 1000;

/// Something that is wrong with the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportError {
    /// Kind and name, for example `Service default/web`, or `item 3` where the name is not known; empty where
    /// the error is not in an item.
    pub object: String,
    /// Path inside the object, for example `spec.ports[0].nodePort`; may be empty.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The same place in bytes from the beginning of the text.
    pub offset: usize,
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        for part in [&self.object, &self.path] {
            if !part.is_empty() {
                write!(f, "{part}: ")?;
            }
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for ImportError {}

/// An error whose place is still an offset.
pub(super) struct Unplaced {
    pub object: String,
    pub path: String,
    pub message: String,
    pub offset: usize,
}

/// The errors in the order of the text, with lines and columns.
pub(super) fn placed(text: &str, mut errors: Vec<Unplaced>) -> Vec<ImportError> {
    errors.sort_by_key(|error| error.offset);
    let mut cursor = Cursor::new(text);
    let place = |error: Unplaced| {
        let Unplaced { object, path, message, offset } = error;
        let (line, column) = cursor.position(offset);
        ImportError { object, path, message, line, column, offset }
    };
    errors.into_iter().map(place).collect()
}

/// A file's bytes as text, or why they are none.
pub fn text_of(bytes: Vec<u8>) -> Result<String, ImportError> {
    let fault = |offset: usize, bytes: &[u8], message: String| {
        let before = String::from_utf8_lossy(&bytes[..offset]);
        let (line, column) = Cursor::new(&before).position(before.len());
        ImportError { object: String::new(), path: String::new(), message, line, column, offset }
    };
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(fault(
            0,
            &bytes,
            "is UTF-16, as PowerShell's `>` writes it: save it as UTF-8".to_owned(),
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let message = format!("byte {:#04x} is no UTF-8", error.as_bytes()[offset]);
        fault(offset, error.as_bytes(), message)
    })
}
