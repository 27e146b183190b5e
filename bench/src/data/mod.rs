//! What is stored: keys and values made from numbers.
//!
//! Owns: the data sets. Called by: every workload.
//! Invariants: the same shape gives the same bytes on every run and for every server; values of different keys or
//! versions differ, so that a compressor gets no gift; keys of a data set begin with its prefix.

mod kubernetes;
mod protobuf;

use bytes::Bytes;
use clap::ValueEnum;

/// A data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Data {
    /// Keys and values of a fixed size; half of every value is random.
    Pattern,
    /// Objects as kube-apiserver stores them: Pods, Events, Leases, ConfigMaps, Secrets.
    Kubernetes,
    /// Pods only.
    Pods,
}

/// Sizes and counts of the stored data.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Shape {
    /// Which data set.
    pub data: Data,
    /// Bytes per key, at least [`KEY_BYTES_MIN`]; ignored by the Kubernetes sets.
    pub key_bytes: usize,
    /// Bytes per value; ignored by the Kubernetes sets.
    pub value_bytes: usize,
    /// Number of different keys.
    pub key_space: u64,
    /// Where the pseudo-random numbers start.
    pub seed: u64,
}

/// The prefix and sixteen hexadecimal digits.
pub const KEY_BYTES_MIN: usize = PATTERN_PREFIX.len() + 16;

const PATTERN_PREFIX: &str = "/bench/";

impl Shape {
    /// The key with a number.
    pub fn key(&self, number: u64) -> Bytes {
        match self.data {
            Data::Pattern => {
                // A multiplicative hash scatters neighbours, as names of real objects do.
                let scattered = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let mut key = format!("{PATTERN_PREFIX}{scattered:016x}").into_bytes();
                key.resize(self.key_bytes.max(KEY_BYTES_MIN), b'k');
                Bytes::from(key)
            }
            Data::Kubernetes => kubernetes::key(self.seed, kubernetes::kind_of(number), number),
            Data::Pods => kubernetes::key(self.seed, kubernetes::Kind::Pod, number),
        }
    }

    /// The value that key `number` has at a version (from zero).
    pub fn value(&self, number: u64, version: u64) -> Bytes {
        match self.data {
            Data::Pattern => {
                let mut random = Random::new(self.seed ^ number.rotate_left(20) ^ version.rotate_left(50));
                Bytes::from(random.half_text(self.value_bytes))
            }
            Data::Kubernetes => kubernetes::value(self.seed, kubernetes::kind_of(number), number, version),
            Data::Pods => kubernetes::value(self.seed, kubernetes::Kind::Pod, number, version),
        }
    }

    /// What all keys begin with.
    pub fn prefix(&self) -> Bytes {
        Bytes::from_static(match self.data {
            Data::Pattern => PATTERN_PREFIX.as_bytes(),
            Data::Kubernetes | Data::Pods => kubernetes::PREFIX.as_bytes(),
        })
    }

    /// The first key after all that begin with the prefix.
    pub fn prefix_end(&self) -> Bytes {
        let mut end = self.prefix().to_vec();
        *end.last_mut().expect("a prefix is not empty") += 1;
        Bytes::from(end)
    }
}

/// Pseudo-random numbers: quick, repeatable, and good enough to look like names and secrets.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Numbers that follow from `seed` alone.
    pub fn new(seed: u64) -> Self {
        // Neighbouring seeds must not give neighbouring numbers, and zero would stay zero.
        let mixed = (seed ^ 0x2545_f491_4f6c_dd1d).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Random((mixed ^ (mixed >> 29)) | 1)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        (self.number() >> 33) % bound.max(1)
    }

    /// True in `share` of all cases.
    pub fn chance(&mut self, share: f64) -> bool {
        (self.number() >> 11) as f64 / (1u64 << 53) as f64 <= share
    }

    /// Bytes that nothing can compress.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length.div_ceil(8)).flat_map(|_| self.number().to_le_bytes()).take(length).collect()
    }

    /// Every second byte random, the others text.
    fn half_text(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = self.bytes(length);
        for (position, byte) in bytes.iter_mut().enumerate().skip(1).step_by(2) {
            *byte = b'a' + (position % 26) as u8;
        }
        bytes
    }

    /// Lower-case letters and digits, as generated names end.
    pub fn name(&mut self, length: usize) -> String {
        const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        (0..length).map(|_| LETTERS[self.below(LETTERS.len() as u64) as usize] as char).collect()
    }

    /// Hexadecimal digits.
    pub fn hex(&mut self, length: usize) -> String {
        (0..length).map(|_| char::from_digit(self.below(16) as u32, 16).expect("a digit")).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn shape(data: Data) -> Shape {
        Shape { data, key_bytes: 32, value_bytes: 256, key_space: 10_000, seed: 1 }
    }

    #[test]
    fn keys_are_distinct_and_lie_under_the_prefix() {
        for data in [Data::Pattern, Data::Kubernetes, Data::Pods] {
            let shape = shape(data);
            let keys: BTreeSet<Bytes> = (0..10_000).map(|number| shape.key(number)).collect();
            assert_eq!(keys.len(), 10_000, "{data:?}");
            let (first, end) = (shape.prefix(), shape.prefix_end());
            assert!(keys.iter().all(|key| *key > first && *key < end), "{data:?}");
        }
        assert!((0..100).all(|number| shape(Data::Pattern).key(number).len() == 32));
    }

    #[test]
    fn a_seed_gives_the_same_bytes_again_and_another_seed_others() {
        for data in [Data::Pattern, Data::Kubernetes, Data::Pods] {
            let one = shape(data);
            let other = Shape { seed: 2, ..one };
            let all =
                |shape: &Shape| -> Vec<Bytes> { (0..100).map(|number| shape.value(number, 3)).collect() };
            assert_eq!(all(&one), all(&one), "{data:?}");
            assert!(all(&one).iter().zip(all(&other)).all(|(left, right)| *left != right), "{data:?}");
            assert_ne!(one.value(7, 0), one.value(7, 1), "{data:?}: versions differ");
        }
    }

    #[test]
    fn a_chance_is_a_share() {
        let mut random = Random::new(9);
        let hits = (0..10_000).filter(|_| random.chance(0.8)).count();
        assert!((7_800..8_200).contains(&hits), "{hits}");
    }
}
