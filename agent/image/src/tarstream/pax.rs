//! PAX extended header records: `<length> <key>=<value>\n`, values binary (POSIX pax, "pax Extended
//! Header"; the `SCHILY.xattr.` prefix is star's, used by GNU tar, Go and Docker). Pure.

use super::reader::TarError;

const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";
const SPARSE_PREFIX: &[u8] = b"GNU.sparse.";

/// What the records of one entry override.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PaxRecords {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<(i64, u32)>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub sparse: bool,
}

/// Parses all records; unknown keys are skipped.
pub(super) fn parse(mut data: &[u8]) -> Result<PaxRecords, TarError> {
    let mut out = PaxRecords::default();
    while !data.is_empty() {
        let (record, rest) = split_record(data).ok_or(TarError::Pax)?;
        let equals = record.iter().position(|b| *b == b'=').ok_or(TarError::Pax)?;
        apply(&mut out, &record[..equals], &record[equals + 1..])?;
        data = rest;
    }
    Ok(out)
}

/// The record without length and newline, and what follows it.
fn split_record(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = data.iter().take(20).position(|b| *b == b' ')?;
    let length: usize = std::str::from_utf8(&data[..space]).ok()?.parse().ok()?;
    if length < space + 3 || length > data.len() || data[length - 1] != b'\n' {
        return None;
    }
    Some((&data[space + 1..length - 1], &data[length..]))
}

fn apply(out: &mut PaxRecords, key: &[u8], value: &[u8]) -> Result<(), TarError> {
    match key {
        b"path" => out.path = Some(value.to_vec()),
        b"linkpath" => out.link = Some(value.to_vec()),
        b"size" => out.size = Some(number(value)?),
        b"uid" => out.uid = Some(number(value)?),
        b"gid" => out.gid = Some(number(value)?),
        b"mtime" => out.mtime = Some(time(value).ok_or(TarError::Pax)?),
        _ if key.starts_with(SPARSE_PREFIX) => out.sparse = true,
        _ => {
            if let Some(name) = key.strip_prefix(XATTR_PREFIX) {
                out.xattrs.push((name.to_vec(), value.to_vec()));
            }
        }
    }
    Ok(())
}

fn number(value: &[u8]) -> Result<u64, TarError> {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(TarError::Pax)
}

/// Seconds with an optional sign and fraction, as seconds rounded down and nanoseconds.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let mut nanos: u32 = 0;
    for digit in fraction.bytes().chain(std::iter::repeat(b'0')).take(9) {
        nanos = nanos * 10 + u32::from(digit - b'0');
    }
    if whole.starts_with('-') && nanos > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos));
    }
    Some((seconds, nanos))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let body = key.len() + value.len() + 3;
        let mut length = body + body.to_string().len();
        length = body + length.to_string().len();
        let mut out = format!("{length} {key}=").into_bytes();
        out.extend_from_slice(value);
        out.push(b'\n');
        out
    }

    #[test]
    fn binary_values_do_not_hide_what_follows() {
        let mut data = record("SCHILY.xattr.security.capability", b"\x01\n\0=\n 5");
        data.extend(record("size", b"77"));
        data.extend(record("path", b"a\nb"));
        let records = parse(&data).unwrap();
        assert_eq!(records.size, Some(77));
        assert_eq!(records.path.unwrap(), b"a\nb");
        assert_eq!(records.xattrs[0].1, b"\x01\n\0=\n 5");
    }

    #[test]
    fn times_keep_sign_and_fraction() {
        assert_eq!(time(b"12"), Some((12, 0)));
        assert_eq!(time(b"12.5"), Some((12, 500_000_000)));
        assert_eq!(time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time(b"-0.25"), Some((-1, 750_000_000)));
        assert_eq!(time(b"1.0000000019"), Some((1, 1)));
        assert_eq!(time(b"x"), None);
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in
            [&b"12 path=a\n"[..], b"path=a\n", b"8 path=a\n", b"99999999999999999999 a=b\n", b"9 size=x\n", b"5 ab\n"]
        {
            assert!(matches!(parse(bad), Err(TarError::Pax)), "{bad:?} gave {:?}", parse(bad));
        }
    }
}
