//! The header that says which part of a blob an answer holds.

/// The part of a blob that an answer to a range request holds, as `Content-Range` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// Its first byte.
    pub first: u64,
    /// Its last byte.
    pub last: u64,
    /// All of the blob, where the registry says.
    pub total: Option<u64>,
}

impl ContentRange {
    /// Reads `bytes FIRST-LAST/TOTAL`; `None` where it is anything else.
    ///
    /// # Source
    /// RFC 9110, section 14.4.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.trim().strip_prefix("bytes ")?;
        let (part, total) = rest.split_once('/')?;
        let (first, last) = part.split_once('-')?;
        let found = Self {
            first: number(first)?,
            last: number(last)?,
            total: match total {
                "*" => None,
                total => Some(number(total)?),
            },
        };
        let fits = found.total.is_none_or(|total| found.last < total);
        (found.first <= found.last && fits).then_some(found)
    }
}

/// As `parse`, but without the sign that it would take.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::ContentRange;

    #[test]
    fn only_ranges_that_make_sense_are_read() {
        let range = |first, last, total| Some(ContentRange { first, last, total });
        assert_eq!(ContentRange::parse("bytes 5-9/10"), range(5, 9, Some(10)));
        assert_eq!(ContentRange::parse("bytes 0-0/*"), range(0, 0, None));
        for bad in [
            "",
            "bytes */10",
            "bytes 9-5/10",
            "bytes 5-10/10",
            "bytes +5-9/10",
            "bytes 5-9",
            "items 5-9/10",
            "bytes 5-99999999999999999999/*",
        ] {
            assert_eq!(ContentRange::parse(bad), None, "{bad}");
        }
    }
}
