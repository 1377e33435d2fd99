//! Bits, the highest first, and the three ways in which chunks write numbers in them.

/// A string of bits that grows.
#[derive(Debug, Default)]
pub struct Bits {
    bytes: Vec<u8>,
    /// Bits of the last byte that are not written yet.
    free: u32,
}

/// The widths of a number whose size is said by ones in front of it: for all but the last, one `1`
/// more each and a `0`.
const WIDTHS: [u32; 7] = [3, 6, 9, 12, 18, 25, 56];

impl Bits {
    /// Bits that follow a header.
    pub fn after(header: &[u8]) -> Self {
        Self {
            bytes: header.to_vec(),
            free: 0,
        }
    }

    /// Appends the `count` lowest bits of a number; at most 64.
    pub fn write(&mut self, value: u64, count: u32) {
        let mut left = count;
        while left > 0 {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            let take = left.min(self.free);
            let bits = (value >> (left - take)) as u8 & (0xff >> (8 - take));
            self.free -= take;
            left -= take;
            if let Some(last) = self.bytes.last_mut() {
                *last |= bits << self.free;
            }
        }
    }

    /// Appends a number in groups of seven bits, the lowest first, each with a bit that says
    /// whether another follows.
    pub fn write_uvarint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.write(value & 0x7f | 0x80, 8);
            value >>= 7;
        }
        self.write(value, 8);
    }

    /// The same for a number with a sign, which goes into the lowest bit.
    pub fn write_varint(&mut self, value: i64) {
        self.write_uvarint((value << 1 ^ value >> 63) as u64);
    }

    /// Appends a number in one of nine widths.
    pub fn write_varbit_int(&mut self, value: i64) {
        self.write_varbit(value as u64, value == 0, |width| fits(value, width));
    }

    /// The same for a number without a sign.
    pub fn write_varbit_uint(&mut self, value: u64) {
        self.write_varbit(value, value == 0, |width| value >> width == 0);
    }

    fn write_varbit(&mut self, bits: u64, is_zero: bool, fits: impl Fn(u32) -> bool) {
        if is_zero {
            return self.write(0, 1);
        }
        match WIDTHS.iter().zip(2u32..).find(|(width, _)| fits(**width)) {
            Some((width, prefix)) => {
                self.write((1 << prefix) - 2, prefix);
                self.write(bits, *width);
            }
            None => {
                self.write(0xff, 8);
                self.write(bits, 64);
            }
        }
    }

    /// The bytes so far; the last may have bits that are 0 because nothing was written to them.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Whether a number fits so many bits. Their range is shifted by one against two's complement: the
/// largest is a power of two.
pub fn fits(value: i64, bits: u32) -> bool {
    let half = 1i64 << (bits - 1);
    (1 - half..=half).contains(&value)
}

/// A float that is written as what changed since the previous one.
#[derive(Debug, Clone, Copy)]
pub struct Xor {
    bits: u64,
    /// Zeros before and after the bits that changed, of the last change that said so.
    window: Option<(u32, u32)>,
}

impl Xor {
    /// After a first value, which was written as it is.
    pub fn new(value: f64) -> Self {
        Self {
            bits: value.to_bits(),
            window: None,
        }
    }

    /// Appends the next value.
    pub fn write(&mut self, out: &mut Bits, value: f64) {
        let changed = value.to_bits() ^ self.bits;
        self.bits = value.to_bits();
        if changed == 0 {
            return out.write(0, 1);
        }
        // Five bits say how many zeros there are before.
        let (before, after) = (changed.leading_zeros().min(31), changed.trailing_zeros());
        if let Some((first, last)) = self.window
            && before >= first
            && after >= last
        {
            out.write(0b10, 2);
            return out.write(changed >> last, 64 - first - last);
        }
        self.window = Some((before, after));
        let count = 64 - before - after;
        out.write(0b11, 2);
        out.write(u64::from(before), 5);
        // 64 is written as 0.
        out.write(u64::from(count), 6);
        out.write(changed >> after, count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(write: impl Fn(&mut Bits), expected: &[u8]) {
        let mut bits = Bits::default();
        write(&mut bits);
        assert_eq!(bits.into_bytes(), expected);
    }

    #[test]
    fn bits_fill_bytes_from_the_top() {
        check(|bits| bits.write(1, 1), &[0x80]);
        check(
            |bits| {
                bits.write(0b101, 3);
                bits.write(0xfff, 12);
                bits.write(0, 1);
                bits.write(1, 1);
            },
            &[0b1011_1111, 0b1111_1110, 0b1000_0000],
        );
        check(|bits| bits.write(u64::MAX, 64), &[0xff; 8]);
    }

    #[test]
    fn numbers_of_many_widths() {
        check(|bits| bits.write_varint(-1), &[1]);
        check(|bits| bits.write_varint(64), &[0x80, 1]);
        check(|bits| bits.write_uvarint(300), &[0xac, 2]);
        check(|bits| bits.write_varbit_int(0), &[0]);
        check(|bits| bits.write_varbit_int(4), &[0b1010_0000]);
        check(|bits| bits.write_varbit_int(-3), &[0b1010_1000]);
        check(|bits| bits.write_varbit_int(5), &[0b1100_0010, 0b1000_0000]);
        check(|bits| bits.write_varbit_uint(7), &[0b1011_1000]);
        check(|bits| bits.write_varbit_uint(8), &[0b1100_0100, 0]);
        check(
            |bits| bits.write_varbit_int(i64::MIN),
            &[0xff, 0x80, 0, 0, 0, 0, 0, 0, 0],
        );
        assert!(fits(4, 3) && fits(-3, 3) && !fits(5, 3) && !fits(-4, 3));
    }
}
