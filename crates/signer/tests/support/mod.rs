//! A wallet with known coins, and an engine that asks whatever it is told to; it must never judge what comes back.
#![allow(dead_code, reason = "each test binary uses its own part")]

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{Psbt, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use ed25519_dalek::{Signer as _, SigningKey};
use florin_chain::bitcoin::descriptor::Descriptor;
use florin_chain::bitcoin::keys::{AddressIndex, Branch, ScriptKind};
use florin_chain::bitcoin::mnemonic::Seed;
use florin_chain::bitcoin::network::Network;
use florin_core::amount::Amount;
use florin_core::custody::{Approval, Intent};
use florin_core::id::{AssetId, BlockHash, Digest, Epoch, LedgerTime, PlanId, Seq, TxId, WalletId, WithdrawalId};
use florin_core::wire::Bytes;
use florin_signer::keystore::KeyStore;
use florin_signer::memory::Memory;
use florin_signer::policy::Policy;
use florin_signer::protocol::{
    Fence, Input, MemoryHead, Outcome, PaymentRequest, Refused, Reply, Request, SignPlan, Signed,
};
use florin_signer::refusal::Refusal;
use florin_signer::session::Signer;

pub const PLATFORM: [u8; 16] = [0x11; 16];
pub const SEED: [u8; 64] = [0x5e; 64];
pub const NOW: LedgerTime = LedgerTime(1_800_000_000_000);
pub const HOUR: u64 = 3_600_000;
pub const WALLET: u32 = 1;
pub const ASSET: u32 = 2;

/// Limits of the policy, as the tests count them.
pub const LIMIT_PAYMENT: u64 = 1_000_000;
pub const LIMIT_HOUR: u64 = 2_000_000;
pub const LIMIT_DAY: u64 = 3_000_000;
pub const LIMIT_DESTINATION: u64 = 1_100_000;
pub const FEE_CAP: u64 = 50_000;

pub fn operator(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

pub fn policy(kind: ScriptKind) -> Policy {
    policy_of(kind, 3)
}

/// A policy with operators 1 to `operators`, two of whom have to approve.
pub fn policy_of(kind: ScriptKind, operators: u8) -> Policy {
    let operators: String = (1..=operators)
        .map(|number| {
            let key = operator(number).verifying_key().to_bytes();
            let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("[[operator]]\nname = \"operator {number}\"\nkey = \"{key}\"\n")
        })
        .collect();
    let text = format!(
        "platform = \"11111111-1111-1111-1111-111111111111\"\nthreshold = 2\n[[network]]\nname = \"regtest\"\n\
         genesis = \"0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206\"\n{operators}\
         [[wallet]]\nid = {WALLET}\nnetwork = \"regtest\"\nasset = {ASSET}\nscript = \"{}\"\naccount = 0\n\
         fee_max_sat = \"{FEE_CAP}\"\nfee_share_max_bp = 1000\nfee_rate_max_sat_kvb = \"50000\"\n[wallet.automatic]\n\
         payment_sat = \"{LIMIT_PAYMENT}\"\nhour_sat = \"{LIMIT_HOUR}\"\nday_sat = \"{LIMIT_DAY}\"\n\
         destination_day_sat = \"{LIMIT_DESTINATION}\"\n",
        kind.name()
    );
    Policy::parse(&text).expect("a good policy")
}

pub fn keys() -> KeyStore {
    KeyStore::demo(Seed::from_bytes(&SEED))
}

/// The id of every memory that lasts as long as its test.
pub const MEMORY: [u8; 16] = [9; 16];

pub fn signer_with(kind: ScriptKind, memory: Memory) -> Signer {
    Signer::new(&keys(), policy(kind), memory).unwrap_or_else(|error| panic!("{}", error.code()))
}

pub fn signer(kind: ScriptKind) -> Signer {
    signer_with(kind, Memory::volatile(PLATFORM, MEMORY).expect("a memory"))
}

/// A coin of the wallet, with the transaction that made it.
#[derive(Debug, Clone, PartialEq)]
pub struct Coin {
    pub parent: Transaction,
    pub branch: Branch,
    pub index: u32,
}

impl Coin {
    pub fn input(&self) -> Input {
        Input { txid: TxId(self.parent.compute_txid().to_byte_array()), vout: 0 }
    }
    pub fn output(&self) -> &TxOut {
        &self.parent.output[0]
    }
}

/// The wallet as the engine knows it: public keys only.
pub struct Wallet {
    pub kind: ScriptKind,
    pub external: Descriptor,
    pub internal: Descriptor,
}

impl Wallet {
    pub fn new(kind: ScriptKind) -> Wallet {
        Wallet::of(&keys(), kind)
    }
    pub fn of(keys: &KeyStore, kind: ScriptKind) -> Wallet {
        let kit = keys.kit(Network::Regtest, 0).expect("a kit");
        let entry = kit.entries.iter().find(|entry| entry.kind == kind).expect("each kind is there");
        let read = |text: &str| Descriptor::parse(Network::Regtest, text).expect("its own text");
        Wallet { kind, external: read(&entry.external), internal: read(&entry.internal) }
    }
    pub fn script(&self, branch: Branch, index: u32) -> ScriptBuf {
        let descriptor = match branch {
            Branch::External => &self.external,
            Branch::Internal => &self.internal,
        };
        descriptor.script(AddressIndex::new(index).expect("small")).expect("a key").to_script_buf()
    }
    /// Coin number `number`, of `amount`: the transaction that made it is real, its own input is not.
    pub fn coin(&self, number: u32, amount: u64) -> Coin {
        let branch = if number.is_multiple_of(2) { Branch::External } else { Branch::Internal };
        let index = number % 40;
        let mut from = [0xee; 32];
        from[..4].copy_from_slice(&number.to_be_bytes());
        let input = TxIn {
            previous_output: bitcoin::OutPoint { txid: Txid::from_byte_array(from), vout: 1 },
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[[1u8; 20]]),
        };
        let output = TxOut { value: bitcoin::Amount::from_sat(amount), script_pubkey: self.script(branch, index) };
        let parent =
            Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input: vec![input], output: vec![output] };
        Coin { parent, branch, index }
    }
}

/// An outside destination.
pub fn stranger(number: u8) -> Vec<u8> {
    let mut script = vec![0, 20];
    script.extend([number; 20]);
    script
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Approving {
    /// Operator n over this intent.
    Right(u8),
    /// Operator n over something else.
    Wrong(u8),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Pay {
    pub intent: Intent,
    pub approvals: Vec<Approving>,
    pub raw_approvals: Vec<Approval>,
}

pub fn intent(withdrawal: u32, script: Vec<u8>, amount: u64) -> Intent {
    let mut id = [0u8; 16];
    id[..4].copy_from_slice(&withdrawal.to_be_bytes());
    Intent {
        platform: PLATFORM,
        wallet: WalletId(WALLET),
        genesis: BlockHash(Network::Regtest.genesis_hash().to_byte_array()),
        asset: AssetId(ASSET),
        script: Bytes(script),
        amount: Amount::new(u128::from(amount)),
        fee_max: Amount::new(20_000),
        expiry: LedgerTime(NOW.0 + 1000 * HOUR),
        withdrawal: WithdrawalId(id),
    }
}

pub fn pay(withdrawal: u32, script: Vec<u8>, amount: u64) -> Pay {
    Pay { intent: intent(withdrawal, script, amount), approvals: vec![], raw_approvals: vec![] }
}

pub fn approval(number: u8, intent: &Intent) -> Approval {
    let key = operator(number);
    Approval { key: key.verifying_key().to_bytes(), signature: key.sign(&intent.digest().0).to_bytes() }
}

/// A request in parts that can be bent one by one.
#[derive(Clone)]
pub struct Draft {
    pub fence: Fence,
    pub plan: u64,
    pub wallet: u32,
    pub version: u32,
    pub anchor: Option<Input>,
    pub pays: Vec<Pay>,
    pub coins: Vec<Coin>,
    pub fee: u64,
    pub change_index: Option<u32>,
    /// Added to the change, against the sums.
    pub change_extra: u64,
    pub change_split: bool,
    pub extra_outputs: Vec<(Vec<u8>, u64)>,
    pub payment_outputs_dropped: usize,
    pub locktime: u32,
    pub edits: Vec<fn(&mut Psbt)>,
    pub cut: bool,
    pub memory: Option<MemoryHead>,
}

pub fn fence(seq: u64, time: LedgerTime) -> Fence {
    let mut head = [0x33; 32];
    head[..8].copy_from_slice(&seq.to_be_bytes());
    Fence { platform: PLATFORM, epoch: Epoch(1), seq: Seq(seq), head: Digest(head), time }
}

pub fn draft(plan: u64, coins: Vec<Coin>, pays: Vec<Pay>) -> Draft {
    Draft {
        fence: fence(1, NOW),
        plan,
        wallet: WALLET,
        version: 0,
        anchor: None,
        pays,
        coins,
        fee: 1_000,
        change_index: Some(5),
        change_extra: 0,
        change_split: false,
        extra_outputs: vec![],
        payment_outputs_dropped: 0,
        locktime: 0,
        edits: vec![],
        cut: false,
        memory: None,
    }
}

impl Draft {
    pub fn transaction(&self, wallet: &Wallet) -> Transaction {
        let input = self.coins.iter().map(|coin| TxIn {
            previous_output: bitcoin::OutPoint { txid: coin.parent.compute_txid(), vout: 0 },
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::new(),
        });
        let out = |script: Vec<u8>, amount: u64| TxOut {
            value: bitcoin::Amount::from_sat(amount),
            script_pubkey: ScriptBuf::from_bytes(script),
        };
        let paying = self.pays.len().saturating_sub(self.payment_outputs_dropped);
        let mut output: Vec<TxOut> = self.pays[..paying]
            .iter()
            .map(|pay| {
                out(pay.intent.script.0.clone(), u64::try_from(pay.intent.amount.units()).unwrap_or(u64::MAX / 4))
            })
            .collect();
        output.extend(self.extra_outputs.iter().map(|(script, amount)| out(script.clone(), *amount)));
        let held: u64 = self.coins.iter().map(|coin| coin.output().value.to_sat()).sum();
        let spent: u64 = output.iter().map(|output| output.value.to_sat()).sum::<u64>() + self.fee;
        let change = held.saturating_sub(spent) + self.change_extra;
        if let Some(index) = self.change_index
            && change > 0
        {
            let script = wallet.script(Branch::Internal, index).into_bytes();
            if self.change_split {
                output.push(out(script.clone(), change / 2));
                output.push(out(script, change - change / 2));
            } else {
                output.push(out(script, change));
            }
        }
        let lock_time = LockTime::from_consensus(self.locktime);
        Transaction { version: Version::TWO, lock_time, input: input.collect(), output }
    }

    pub fn psbt(&self, wallet: &Wallet) -> Psbt {
        let mut psbt = Psbt::from_unsigned_tx(self.transaction(wallet)).expect("unsigned");
        for (input, coin) in psbt.inputs.iter_mut().zip(&self.coins) {
            input.non_witness_utxo = Some(coin.parent.clone());
            let descriptor = match coin.branch {
                Branch::External => &wallet.external,
                Branch::Internal => &wallet.internal,
            };
            let index = AddressIndex::new(coin.index).expect("small");
            let key = descriptor.deriver().public_key(index).expect("a key");
            let origin = (descriptor.origin().fingerprint, descriptor.full_path(index));
            if wallet.kind == ScriptKind::Tr {
                input.tap_key_origins.insert(key.x_only_public_key().0, (vec![], origin));
            } else {
                input.bip32_derivation.insert(key, origin);
            }
        }
        if let Some(index) = self.change_index {
            let index = AddressIndex::new(index).expect("small");
            let script = wallet.script(Branch::Internal, index.get());
            let key = wallet.internal.deriver().public_key(index).expect("a key");
            let origin = (wallet.internal.origin().fingerprint, wallet.internal.full_path(index));
            let outputs = psbt.outputs.iter_mut().zip(&psbt.unsigned_tx.output);
            for (output, _) in outputs.filter(|(_, planned)| planned.script_pubkey == script) {
                if wallet.kind == ScriptKind::Tr {
                    output.tap_key_origins.insert(key.x_only_public_key().0, (vec![], origin.clone()));
                } else {
                    output.bip32_derivation.insert(key, origin.clone());
                }
            }
        }
        for edit in &self.edits {
            edit(&mut psbt);
        }
        psbt
    }

    pub fn request(&self, wallet: &Wallet) -> SignPlan {
        let payments = self.pays.iter().map(|pay| {
            let mut approvals = pay.raw_approvals.clone();
            approvals.extend(pay.approvals.iter().map(|approving| match approving {
                Approving::Right(number) => approval(*number, &pay.intent),
                Approving::Wrong(number) => approval(
                    *number,
                    &Intent { amount: Amount::new(pay.intent.amount.units() ^ 1), ..pay.intent.clone() },
                ),
            }));
            PaymentRequest { intent: pay.intent.clone(), approvals }
        });
        let mut psbt = self.psbt(wallet).serialize();
        if self.cut {
            psbt.truncate(psbt.len() / 2);
        }
        SignPlan {
            fence: self.fence,
            plan: PlanId(self.plan),
            wallet: WalletId(self.wallet),
            version: self.version,
            anchor: self
                .anchor
                .or(self.coins.first().map(Coin::input))
                .unwrap_or(Input { txid: TxId([0; 32]), vout: 0 }),
            payments: payments.collect(),
            psbt: Bytes(psbt),
            known: None,
            memory: self.memory,
        }
    }
}

/// Asks as one whose journal has the last row seen, or who says so.
pub fn ask(signer: &mut Signer, request: &Request, clock: LedgerTime) -> Reply {
    let hello = Request::Hello(florin_signer::protocol::Hello { protocol: florin_signer::protocol::PROTOCOL });
    let Outcome::Welcome(welcome) = raw(signer, &hello, clock).outcome else { panic!("it greets") };
    let row = welcome.highest.map(|row| florin_signer::protocol::KnownRow { seq: row.seq, hash: row.head });
    let mut request = request.clone();
    match &mut request {
        Request::SignPlan(SignPlan { known, .. })
        | Request::VoidPlan(florin_signer::protocol::VoidPlan { known, .. })
        | Request::CheckpointHead(florin_signer::protocol::CheckpointHead { known, .. }) => *known = known.or(row),
        Request::Hello(_) | Request::Descriptors(_) | Request::Status(_) => {}
    }
    raw(signer, &request, clock)
}

/// Asks exactly this.
pub fn raw(signer: &mut Signer, request: &Request, clock: LedgerTime) -> Reply {
    signer.handle(request, clock).unwrap_or_else(|fault| panic!("{}", fault.code()))
}

pub fn sign(signer: &mut Signer, wallet: &Wallet, draft: &Draft, clock: LedgerTime) -> Result<Signed, Refused> {
    match ask(signer, &Request::SignPlan(draft.request(wallet)), clock).outcome {
        Outcome::Signed(signed) => Ok(signed),
        Outcome::Refused(refused) => Err(refused),
        other => panic!("{other:?}"),
    }
}

pub fn reason(result: Result<Signed, Refused>) -> Option<Refusal> {
    result.err().map(|refused| refused.reason)
}
