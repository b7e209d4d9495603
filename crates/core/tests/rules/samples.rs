//! Seeded randomness for tests: the same seed gives the same run on every machine.

/// SplitMix64 (Steele, Lea, Flood 2014): small, and good enough to choose test cases.
#[derive(Debug)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Below `bound`, which is more than zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Of any number of bits, all equally likely: so that zero, small and greatest numbers all come.
    pub fn sized(&mut self) -> u64 {
        match self.below(66) {
            0 => 0,
            65 => u64::MAX,
            bits => self.next() >> (64 - bits),
        }
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }

    pub fn text(&mut self) -> String {
        let length = self.below(20);
        (0..length).map(|_| ['a', 'Z', '0', '-', 'é', '金'][self.below(6) as usize]).collect()
    }
}
