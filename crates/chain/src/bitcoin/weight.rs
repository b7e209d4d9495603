//! How heavy a transaction will be once it is signed, exactly per script kind; it must never be below the real weight.
//!
//! ECDSA signatures are counted with 72 bytes, their longest form with a low S (BIP-146) and the sighash byte; most have
//! 71. Schnorr signatures always have 64 bytes with the default sighash (BIP-341).

use crate::bitcoin::keys::ScriptKind;
use bitcoin::Script;

/// Bytes of the longest ECDSA signature with its sighash byte.
const ECDSA_SIZE_MAX: u64 = 72;
/// Bytes of a compressed public key.
const KEY_SIZE: u64 = 33;
/// Weight units for a byte outside the witnesses (BIP-141).
const BASE: u64 = 4;

/// The weight of an input's parts that depend on the script: all but the outpoint and sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct InputWeight {
    /// Bytes of the input script and its length.
    script: u64,
    /// Bytes of the witness; 0 when there is none.
    witness: u64,
}

fn input_weight(kind: ScriptKind) -> InputWeight {
    let signature_and_key = 1 + ECDSA_SIZE_MAX + 1 + KEY_SIZE;
    match kind {
        ScriptKind::Pkh => InputWeight { script: 1 + signature_and_key, witness: 0 },
        ScriptKind::ShWpkh => InputWeight { script: 1 + 1 + 22, witness: 1 + signature_and_key },
        ScriptKind::Wpkh => InputWeight { script: 1, witness: 1 + signature_and_key },
        ScriptKind::Tr => InputWeight { script: 1, witness: 1 + 1 + 64 },
    }
}

/// The largest weight of an input of this kind, in a transaction with witnesses.
pub fn input_weight_max(kind: ScriptKind) -> u64 {
    let InputWeight { script, witness } = input_weight(kind);
    BASE * (36 + script + 4) + witness.max(1)
}

/// The weight of an output with this script.
pub fn output_weight(script: &Script) -> u64 {
    let size = script.len() as u64;
    BASE * (8 + length_size(size) + size)
}

/// The weight of a transaction as it grows. It is the largest that the signed transaction can have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WeightSum {
    input_count: u64,
    output_count: u64,
    base_size: u64,
    witness_size: u64,
    witness_inputs: u64,
}

impl WeightSum {
    /// A transaction without inputs and outputs.
    pub fn new() -> WeightSum {
        WeightSum::default()
    }

    /// Adds an input that spends a script of this kind.
    pub fn add_input(&mut self, kind: ScriptKind) {
        let InputWeight { script, witness } = input_weight(kind);
        self.input_count += 1;
        self.base_size += 36 + script + 4;
        self.witness_size += witness;
        self.witness_inputs += u64::from(witness > 0);
    }

    /// Adds an output.
    pub fn add_output(&mut self, script: &Script) {
        self.output_count += 1;
        self.base_size += output_weight(script) / BASE;
    }

    /// The weight in units (BIP-141).
    pub fn weight(&self) -> u64 {
        let counts = length_size(self.input_count) + length_size(self.output_count);
        let base = 4 + counts + self.base_size + 4;
        // With one witness the marker and flag are there, and each input without one has an empty one.
        let witness = match self.witness_inputs {
            0 => 0,
            count => 2 + self.witness_size + (self.input_count - count),
        };
        BASE * base + witness
    }

    /// The size in virtual bytes, rounded up as nodes do.
    pub fn virtual_size(&self) -> u64 {
        self.weight().div_ceil(BASE)
    }

    /// The number of inputs.
    pub fn input_count(&self) -> u64 {
        self.input_count
    }
}

/// Bytes of a length in its shortest form.
fn length_size(length: u64) -> u64 {
    match length {
        0..=0xfc => 1,
        0xfd..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_have_the_known_virtual_sizes() {
        let sizes = ScriptKind::ALL.map(|kind| input_weight_max(kind).div_ceil(BASE));
        assert_eq!(sizes, [149, 91, 68, 58], "one unit more than 148 for pkh beside a witness");
        let mut alone = WeightSum::new();
        alone.add_input(ScriptKind::Pkh);
        assert_eq!(alone.weight(), BASE * (10 + 148));
        alone.add_input(ScriptKind::Wpkh);
        assert_eq!(alone.weight(), BASE * (10 + 148 + 41) + 2 + 1 + 108);
    }

    #[test]
    fn counts_take_more_bytes_when_they_grow() {
        let mut sum = WeightSum::new();
        for _ in 0..252 {
            sum.add_output(Script::from_bytes(&[]));
        }
        let before = sum.weight();
        sum.add_output(Script::from_bytes(&[]));
        assert_eq!(sum.weight() - before, BASE * (9 + 2));
    }
}
