//! The finished pixels: their fingerprint, a PPM file, and letters for a terminal.

use std::io::{self, Write};

/// Rows of red, green and blue bytes, from the top left.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) bytes: Vec<u8>,
}

impl Picture {
    /// Gives the FNV-1a hash of the pixels: it tells pictures apart, and withstands no attacker.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }

    /// Writes the picture as binary PPM, without a comment, so that equal pixels are equal files.
    pub(crate) fn write_ppm(&self, to: &mut impl Write) -> io::Result<()> {
        write!(to, "P6\n{} {}\n255\n", self.width, self.height)?;
        to.write_all(&self.bytes)
    }

    /// Gives the picture in letters, at most `columns` wide; a line is about two columns high.
    pub(crate) fn letters(&self, columns: usize) -> String {
        // From dark to light, in steps that a terminal's font shows.
        const SHADES: &[u8] = b" .:-=+*#%@";
        let columns = columns.min(self.width);
        let lines = (columns * self.height / self.width / 2).max(1);
        let mut text = String::with_capacity((columns + 1) * lines);
        for line in 0..lines {
            let rows = line * self.height / lines..(line + 1) * self.height / lines;
            let shades = (0..columns).map(|column| {
                let across = column * self.width / columns..(column + 1) * self.width / columns;
                let level = self.mean(rows.clone(), across);
                char::from(SHADES[level * (SHADES.len() - 1) / 255])
            });
            text.push_str(shades.collect::<String>().trim_end());
            text.push('\n');
        }
        text
    }

    /// Gives the mean brightness of a rectangle, 0 to 255; an empty one is dark.
    fn mean(&self, rows: std::ops::Range<usize>, columns: std::ops::Range<usize>) -> usize {
        let (mut sum, mut count) = (0, 0);
        for row in rows {
            for column in columns.clone() {
                let at = 3 * (row * self.width + column);
                sum += self.bytes[at..at + 3]
                    .iter()
                    .map(|byte| usize::from(*byte))
                    .sum::<usize>();
                count += 3;
            }
        }
        sum.checked_div(count).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split() -> Picture {
        // Left half black, right half white.
        let row = [[0; 3], [0; 3], [255; 3], [255; 3]].concat();
        Picture {
            width: 4,
            height: 4,
            bytes: row.repeat(4),
        }
    }

    #[test]
    fn fingerprint_is_fnv1a() {
        let picture = Picture {
            width: 1,
            height: 1,
            bytes: b"foobar".to_vec(),
        };
        assert_eq!(picture.fingerprint(), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn letters_follow_brightness() {
        assert_eq!(split().letters(4), "  @@\n  @@\n");
        assert_eq!(split().letters(2), " @\n");
    }

    #[test]
    fn ppm_has_a_header_and_every_pixel() {
        let mut file = Vec::new();
        split().write_ppm(&mut file).unwrap();
        assert!(file.starts_with(b"P6\n4 4\n255\n"));
        assert_eq!(file.len(), 11 + 48);
    }
}
