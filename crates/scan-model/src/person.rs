//! `PersonId`: a keyed hash of a document, the same everywhere without coordination (P1, Y4).

use std::fmt;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::document::Document;
use crate::keyed_hash::{HashBatch, keyed_hash};

/// Names a person everywhere in the system: 64 bits of a keyed hash, never zero.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct PersonId(pub u64);

impl fmt::Debug for PersonId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PersonId({:016x})", self.0)
    }
}

impl fmt::Display for PersonId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl std::str::FromStr for PersonId {
    type Err = PersonIdError;

    fn from_str(text: &str) -> Result<Self, PersonIdError> {
        if text.len() != 16 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(PersonIdError);
        }
        match u64::from_str_radix(text, 16) {
            Ok(id) if id != 0 => Ok(Self(id)),
            _ => Err(PersonIdError),
        }
    }
}

/// The text is not a person id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 16 hexadecimal digits, not all zero")]
pub struct PersonIdError;

/// A person's id together with the further keyed bits that expose a collision of ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Identity {
    /// The id.
    pub person: PersonId,
    /// 128 further bits of the same keyed hash; the resident record keeps the lowest 16.
    pub check: u128,
}

impl Identity {
    /// The 16 bits that the resident record keeps.
    pub const fn residue(&self) -> u16 {
        self.check as u16
    }
}

/// The secret under which documents become ids. The whole deployment shares one.
#[derive(Clone)]
pub struct PersonKey {
    hash_key: [u8; 32],
    text_key: [u8; 32],
    fingerprint: [u8; 8],
}

impl PersonKey {
    /// Derives the working keys from 32 secret bytes.
    pub fn new(secret: &[u8; 32]) -> Self {
        let derive = |context| blake3::derive_key(context, secret);
        let mut fingerprint = [0; 8];
        fingerprint.copy_from_slice(&derive("tongxing 2026 person key fingerprint")[..8]);
        Self {
            hash_key: derive("tongxing 2026 person id"),
            text_key: derive("tongxing 2026 keyed text hash"),
            fingerprint,
        }
    }

    /// Tells keys apart without revealing them; kept in every snapshot, topic and database.
    pub const fn fingerprint(&self) -> [u8; 8] {
        self.fingerprint
    }

    /// The identity behind a document.
    pub fn identify(&self, document: &Document) -> Identity {
        let (kind, number) = document.identity_parts();
        identity(keyed_hash(&self.hash_key, &[&kind, number]))
    }

    /// A keyed hash of any other identifying text, such as a phone number or an operator's name.
    pub fn hash_text(&self, purpose: &str, text: &str) -> u64 {
        let length = (purpose.len() as u64).to_le_bytes();
        let parts = [&length, purpose.as_bytes(), text.as_bytes()];
        u64::from_le_bytes(keyed_hash(&self.text_key, &parts))
    }

    /// Begins a batch in which the same is computed for many at a fraction of the time, with room for some persons: an identity and two
    /// texts each.
    pub fn batch(&self, persons: usize) -> PersonHashing {
        PersonHashing {
            identities: HashBatch::with_capacity(&self.hash_key, persons),
            texts: HashBatch::with_capacity(&self.text_key, 2 * persons),
        }
    }
}

fn identity(hash: [u8; 24]) -> Identity {
    let mut rest = hash.as_slice();
    let id = take(&mut rest).map_or(0, u64::from_le_bytes);
    let check = take(&mut rest).map_or(0, u128::from_le_bytes);
    Identity {
        person: PersonId(id.max(1)),
        check,
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

/// Hashes of persons that are computed together, several at a time.
pub struct PersonHashing {
    identities: HashBatch<24>,
    texts: HashBatch<8>,
}

/// An identity that is being computed.
#[derive(Debug, Clone, Copy)]
pub struct PendingIdentity(u32);

/// A hash of a text that is being computed.
#[derive(Debug, Clone, Copy)]
pub struct PendingHash(u32);

impl PersonHashing {
    /// As [`PersonKey::identify`].
    pub fn identify(&mut self, document: &Document) -> PendingIdentity {
        let (kind, number) = document.identity_parts();
        PendingIdentity(self.identities.push(&[&kind, number]) as u32)
    }

    /// As [`PersonKey::hash_text`].
    pub fn hash_text(&mut self, purpose: &str, text: &str) -> PendingHash {
        let length = (purpose.len() as u64).to_le_bytes();
        let parts = [&length, purpose.as_bytes(), text.as_bytes()];
        PendingHash(self.texts.push(&parts) as u32)
    }

    /// Computes what is left.
    pub fn finish(self) -> PersonHashes {
        PersonHashes {
            identities: self.identities.finish(),
            texts: self.texts.finish(),
        }
    }
}

/// The hashes of a batch.
pub struct PersonHashes {
    identities: Vec<[u8; 24]>,
    texts: Vec<[u8; 8]>,
}

impl PersonHashes {
    /// An identity of the batch.
    ///
    /// # Panics
    /// May panic where it is another batch's.
    pub fn identity(&self, PendingIdentity(place): PendingIdentity) -> Identity {
        identity(self.identities[place as usize])
    }

    /// A text's hash of the batch.
    ///
    /// # Panics
    /// May panic where it is another batch's.
    pub fn text(&self, PendingHash(place): PendingHash) -> u64 {
        u64::from_le_bytes(self.texts[place as usize])
    }
}

impl fmt::Debug for PersonKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PersonKey(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::DocumentKind;

    fn document(number: &str) -> Document {
        let kind = DocumentKind::HongKongMacauPermit;
        Document::parse(kind, number, None, None, (2026, 11, 21)).unwrap()
    }

    #[test]
    fn p1_the_id_depends_on_the_key_and_the_document_alone() {
        let key = PersonKey::new(&[7; 32]);
        let other = PersonKey::new(&[8; 32]);
        assert_eq!(
            key.identify(&document("H00000001")),
            key.identify(&document("h0000000101"))
        );
        assert_ne!(
            key.identify(&document("H00000001")),
            key.identify(&document("H00000002"))
        );
        assert_ne!(
            key.identify(&document("H00000001")),
            other.identify(&document("H00000001"))
        );
        assert_ne!(key.fingerprint(), other.fingerprint());
    }

    /// The extended output of BLAKE3's keyed mode, which is how ids were defined.
    fn extended<const N: usize>(key: &[u8; 32], parts: &[&[u8]]) -> [u8; N] {
        let mut hasher = blake3::Hasher::new_keyed(key);
        for part in parts {
            hasher.update(part);
        }
        let mut output = [0; N];
        hasher.finalize_xof().fill(&mut output);
        output
    }

    #[test]
    fn p1_ids_and_hashes_stay_what_they_are() {
        let key = PersonKey::new(&[7; 32]);
        let document = document("H00000001");
        let identity = key.identify(&document);
        let output: [u8; 24] = extended(
            &key.hash_key,
            &[&document.identity_parts().0, document.identity_parts().1],
        );
        assert_eq!(identity.person.0.to_le_bytes(), output[..8]);
        assert_eq!(identity.check.to_le_bytes(), output[8..]);
        let length = 4_u64.to_le_bytes();
        let output: [u8; 8] = extended(&key.text_key, &[&length, b"name", "张伟".as_bytes()]);
        assert_eq!(key.hash_text("name", "张伟").to_le_bytes(), output);
    }

    #[test]
    fn p1_a_batch_gives_the_same_ids_and_hashes() {
        let key = PersonKey::new(&[7; 32]);
        let numbers: Vec<_> = (1..40).map(|n| format!("H{n:08}")).collect();
        let mut batch = key.batch(numbers.len());
        let pending: Vec<_> = numbers
            .iter()
            .map(|number| {
                (
                    batch.identify(&document(number)),
                    batch.hash_text("phone", number),
                )
            })
            .collect();
        let hashes = batch.finish();
        for (number, (identity, text)) in numbers.iter().zip(pending) {
            assert_eq!(hashes.identity(identity), key.identify(&document(number)));
            assert_eq!(hashes.text(text), key.hash_text("phone", number));
        }
    }

    #[test]
    fn a_person_id_reads_back_from_its_text() {
        let id = PersonKey::new(&[7; 32])
            .identify(&document("H00000001"))
            .person;
        assert_eq!(id.to_string().parse::<PersonId>().unwrap(), id);
        assert!("0000000000000000".parse::<PersonId>().is_err());
        assert!("+00000000000001a".parse::<PersonId>().is_err());
    }
}
