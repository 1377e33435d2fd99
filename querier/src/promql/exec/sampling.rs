//! Which series `limit_ratio` takes: those whose hash lies in the wanted share of all hashes.
//!
//! The hash is that of Prometheus (64-bit XXH64 of names and values, each after its length), so
//! that both answer with the same series. It is not the `series_id`, which is an XXH3 over another
//! encoding.

use tidelake_catalog::model::Labels;

/// Whether a series is in the share of all series that `ratio` (from -1 to 1) asks for. A negative
/// ratio asks for the complement of what `1 + ratio` gives, so that the two together are
/// everything.
pub(crate) fn in_ratio(labels: &Labels, ratio: f64) -> bool {
    let position = hash(labels) as f64 / u64::MAX as f64;
    if ratio >= 0.0 {
        position < ratio
    } else {
        position >= 1.0 + ratio
    }
}

fn hash(labels: &Labels) -> u64 {
    let mut bytes = Vec::with_capacity(labels.as_str().len() + 8);
    for text in labels.iter().flat_map(|(name, value)| [name, value]) {
        match u8::try_from(text.len()) {
            Ok(len) if len < u8::MAX => bytes.push(len),
            _ => {
                bytes.push(u8::MAX);
                bytes.extend(&(text.len() as u32).to_le_bytes()[..3]);
            }
        }
        bytes.extend(text.as_bytes());
    }
    xxh64(&bytes)
}

const PRIME_1: u64 = 0x9e37_79b1_85eb_ca87;
const PRIME_2: u64 = 0xc2b2_ae3d_27d4_eb4f;
const PRIME_3: u64 = 0x1656_67b1_9e37_79f9;
const PRIME_4: u64 = 0x85eb_ca77_c2b2_ae63;
const PRIME_5: u64 = 0x27d4_eb2f_1656_67c5;

fn round(lane: u64, input: u64) -> u64 {
    lane.wrapping_add(input.wrapping_mul(PRIME_2))
        .rotate_left(31)
        .wrapping_mul(PRIME_1)
}

/// XXH64 with seed 0.
fn xxh64(bytes: &[u8]) -> u64 {
    let (stripes, rest) = bytes.as_chunks::<32>();
    let mut hash = if stripes.is_empty() {
        PRIME_5
    } else {
        let mut lanes = [
            PRIME_1.wrapping_add(PRIME_2),
            PRIME_2,
            0,
            PRIME_1.wrapping_neg(),
        ];
        for stripe in stripes {
            for (lane, word) in lanes.iter_mut().zip(stripe.as_chunks::<8>().0) {
                *lane = round(*lane, u64::from_le_bytes(*word));
            }
        }
        let [a, b, c, d] = lanes;
        let mixed = a
            .rotate_left(1)
            .wrapping_add(b.rotate_left(7))
            .wrapping_add(c.rotate_left(12))
            .wrapping_add(d.rotate_left(18));
        lanes.iter().fold(mixed, |hash, lane| {
            (hash ^ round(0, *lane))
                .wrapping_mul(PRIME_1)
                .wrapping_add(PRIME_4)
        })
    };
    hash = hash.wrapping_add(bytes.len() as u64);
    let (words, rest) = rest.as_chunks::<8>();
    for word in words {
        hash = (hash ^ round(0, u64::from_le_bytes(*word)))
            .rotate_left(27)
            .wrapping_mul(PRIME_1)
            .wrapping_add(PRIME_4);
    }
    let (halves, rest) = rest.as_chunks::<4>();
    for half in halves {
        let half = u64::from(u32::from_le_bytes(*half)).wrapping_mul(PRIME_1);
        hash = (hash ^ half)
            .rotate_left(23)
            .wrapping_mul(PRIME_2)
            .wrapping_add(PRIME_3);
    }
    for byte in rest {
        hash = (hash ^ u64::from(*byte).wrapping_mul(PRIME_5))
            .rotate_left(11)
            .wrapping_mul(PRIME_1);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(PRIME_2);
    hash = (hash ^ (hash >> 29)).wrapping_mul(PRIME_3);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_xxh64() {
        for (text, expected) in [
            ("", 0xef46_db37_51d8_e999),
            ("a", 0xd24e_c4f1_a98c_6e5b),
            ("abc", 0x44bc_2cf5_ad77_0999),
            (
                "Nobody inspects the spammish repetition",
                0xfbce_a83c_8a37_8bf1,
            ),
        ] {
            assert_eq!(xxh64(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_ratio_and_its_complement_are_everything() {
        for value in 0..100 {
            let labels = Labels::from_pairs([("a", value.to_string().repeat(200))]);
            for ratio in [0.1, 0.5, 0.9] {
                assert_ne!(
                    in_ratio(&labels, ratio),
                    in_ratio(&labels, ratio - 1.0),
                    "{value} {ratio}"
                );
            }
            assert!(in_ratio(&labels, 1.0) && in_ratio(&labels, -1.0));
        }
    }
}
