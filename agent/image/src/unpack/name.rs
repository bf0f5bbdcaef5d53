//! Entry names: from bytes in a tar to safe path components, whiteouts told apart. Pure.

use super::error::EntryProblem;

const MAX_COMPONENT: usize = 255;
const MAX_PATH: usize = 4095;
const WHITEOUT_PREFIX: &[u8] = b".wh.";
const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";
const AUFS_PREFIX: &[u8] = b".wh..wh.";

/// Splits a name into components that are safe one by one: no empty ones, no `.`, no `..`. An empty
/// list is the layer's root.
pub(super) fn components(name: &[u8]) -> Result<Vec<&[u8]>, EntryProblem> {
    if name.contains(&0) {
        return Err(EntryProblem::Nul);
    }
    if name.starts_with(b"/") {
        return Err(EntryProblem::Absolute);
    }
    let mut out = Vec::new();
    let mut length = 0;
    for component in name.split(|b| *b == b'/') {
        match component {
            b"" | b"." => {}
            b".." => return Err(EntryProblem::DotDot),
            _ => {
                length += component.len() + 1;
                if component.len() > MAX_COMPONENT || length > MAX_PATH {
                    return Err(EntryProblem::NameTooLong);
                }
                out.push(component);
            }
        }
    }
    Ok(out)
}

/// Components joined by slashes.
pub(super) fn join(components: &[&[u8]]) -> Vec<u8> {
    components.join(&b'/')
}

/// What a last component means (OCI image-spec "Whiteouts").
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning<'a> {
    /// An ordinary file.
    Plain(&'a [u8]),
    /// Hides this name of the layers below.
    Whiteout(&'a [u8]),
    /// Hides everything of the layers below in its directory.
    Opaque,
    /// Bookkeeping of AUFS, which means nothing here.
    Ignored,
}

pub(super) fn meaning(last: &[u8]) -> Result<Meaning<'_>, EntryProblem> {
    if last == OPAQUE_MARKER {
        return Ok(Meaning::Opaque);
    }
    if last.starts_with(AUFS_PREFIX) {
        return Ok(Meaning::Ignored);
    }
    match last.strip_prefix(WHITEOUT_PREFIX) {
        None => Ok(Meaning::Plain(last)),
        Some(b"" | b"." | b"..") => Err(EntryProblem::Whiteout),
        Some(hidden) => Ok(Meaning::Whiteout(hidden)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_cut_or_refused() {
        assert_eq!(components(b"./a//b/./c/").unwrap(), [b"a", b"b", b"c"]);
        assert!(components(b"./").unwrap().is_empty());
        assert!(matches!(components(b"/a"), Err(EntryProblem::Absolute)));
        assert!(matches!(components(b"a/../b"), Err(EntryProblem::DotDot)));
        assert!(matches!(components(b".."), Err(EntryProblem::DotDot)));
        assert!(matches!(components(b"a\0b"), Err(EntryProblem::Nul)));
        assert!(matches!(components(&[b'a'; 256]), Err(EntryProblem::NameTooLong)));
        assert!(matches!(components(&b"a/".repeat(2100)), Err(EntryProblem::NameTooLong)));
        assert_eq!(components(b"...").unwrap(), [b"..."]);
    }

    #[test]
    fn whiteouts_are_told_apart() {
        assert_eq!(meaning(b"a").unwrap(), Meaning::Plain(b"a"));
        assert_eq!(meaning(b".wh.a").unwrap(), Meaning::Whiteout(b"a"));
        assert_eq!(meaning(b".wh..wh..opq").unwrap(), Meaning::Opaque);
        assert_eq!(meaning(b".wh..wh.plnk").unwrap(), Meaning::Ignored);
        for bad in [&b".wh."[..], b".wh..", b".wh..."] {
            assert!(meaning(bad).is_err(), "{bad:?}");
        }
    }
}
