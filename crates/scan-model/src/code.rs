//! Sealed code payloads (P4, P5): opaque, unforgeable, unlinkable between issues, no identity inside.
//!
//! A code is a key id byte and one AES-256 block, in base64url without padding (23 characters). The block holds
//!
//! | bits | field |
//! |---|---|
//! | 64 | person id |
//! | 32 | issue second (Unix time, unsigned) |
//! | 4 + 4 | scheme, form |
//! | 24 | zeros |
//!
//! A random block decrypts to 24 zeros once in 16.7 million tries, and then names a random person id, which the
//! status table does not know; both count as forged. Checking a code costs one AES block.

use std::collections::BTreeMap;
use std::fmt;

use aes::Aes256;
use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::person::PersonId;

/// Characters of every code.
pub const CODE_LENGTH: usize = 23;
/// Bytes behind a code's characters: the key id and the block.
pub const SEALED_LENGTH: usize = 17;

/// Whose rules govern a code's validity (P5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// 粤康码: long-lived, no declaration needed.
    Yuekang,
    /// 穗康码: seven days, renewed by a declaration.
    Suikang,
}

impl Scheme {
    /// How many days after its issue, or after the last declaration, a code stays valid.
    pub const fn validity_days(self) -> Option<u32> {
        match self {
            Self::Yuekang => None,
            Self::Suikang => Some(7),
        }
    }
}

/// The form in which a code is carried (P4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CodeForm {
    /// In the app; screenshots are allowed.
    App,
    /// In the app, replaced every minute or sooner.
    Rotating,
    /// Printed in black: its colour is unknown until scanned.
    Paper,
}

/// What a code says once opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodePayload {
    /// Whose code it is.
    pub person: PersonId,
    /// When it was issued, in Unix seconds.
    pub issued_second: u32,
    /// Whose rules govern it.
    pub scheme: Scheme,
    /// The form in which it is carried.
    pub form: CodeForm,
}

/// Why a text is not a code of ours. Every one of them counts as forged (C10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// Not 23 characters of base64url.
    #[error("a code has 23 characters of base64url")]
    Malformed,
    /// The key id is not in force: another deployment's code, or one under a retired key.
    #[error("the code was sealed under a key that is not in force here")]
    UnknownKey,
    /// The block does not open to a payload: altered or invented.
    #[error("the code was not sealed by this system")]
    Forged,
}

/// The keys in force. New codes are sealed under one of them; all of them open codes.
#[derive(Clone)]
pub struct CodeKeys {
    /// By key id; 256 of them, so that a key id byte always has a place.
    ciphers: Box<[Option<Aes256>]>,
    sealing: u8,
}

/// Why a set of keys cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodeKeysError {
    /// There must be at least one key.
    #[error("at least one code key is required")]
    Empty,
}

impl CodeKeys {
    /// Takes key id → 32 secret bytes; the highest id seals.
    pub fn new(keys: &BTreeMap<u8, [u8; 32]>) -> Result<Self, CodeKeysError> {
        let sealing = *keys.keys().next_back().ok_or(CodeKeysError::Empty)?;
        let mut ciphers: Box<[Option<Aes256>]> = (0..256).map(|_| None).collect();
        for (id, key) in keys {
            ciphers[usize::from(*id)] = Some(Aes256::new(&(*key).into()));
        }
        Ok(Self { ciphers, sealing })
    }

    /// These keys, with another one sealing: a key that every node opens already. A key id that is not in force changes nothing.
    #[must_use]
    pub fn sealing_under(mut self, id: u8) -> Self {
        if self.ciphers[usize::from(id)].is_some() {
            self.sealing = id;
        }
        self
    }

    /// The ids of the keys in force.
    pub fn ids(&self) -> Vec<u8> {
        (0..=u8::MAX)
            .filter(|id| self.ciphers[usize::from(*id)].is_some())
            .collect()
    }

    /// The id of the key that seals.
    pub const fn sealing_id(&self) -> u8 {
        self.sealing
    }

    /// Seals a payload under the sealing key.
    pub fn seal(&self, payload: &CodePayload) -> String {
        let mut block = [0; 16];
        block[..8].copy_from_slice(&payload.person.0.to_le_bytes());
        block[8..12].copy_from_slice(&payload.issued_second.to_le_bytes());
        block[12] = (payload.scheme as u8) << 4 | payload.form as u8;
        let mut sealed = [0; SEALED_LENGTH];
        sealed[0] = self.sealing;
        let mut cipher_block = block.into();
        if let Some(cipher) = &self.ciphers[usize::from(self.sealing)] {
            cipher.encrypt_block(&mut cipher_block);
        }
        sealed[1..].copy_from_slice(&cipher_block);
        URL_SAFE_NO_PAD.encode(sealed)
    }

    /// Opens a code.
    ///
    /// # Errors
    /// [`CodeError`] for anything that this deployment did not seal. An error says nothing about the person.
    pub fn open(&self, code: &str) -> Result<CodePayload, CodeError> {
        if code.len() != CODE_LENGTH {
            return Err(CodeError::Malformed);
        }
        let mut sealed = [0; SEALED_LENGTH + 1];
        let length = URL_SAFE_NO_PAD
            .decode_slice(code, &mut sealed)
            .map_err(|_| CodeError::Malformed)?;
        match sealed.first_chunk() {
            Some(sealed) if length == SEALED_LENGTH => self.open_sealed(sealed),
            _ => Err(CodeError::Malformed),
        }
    }

    /// Opens the bytes behind a code.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_sealed(&self, sealed: &[u8; SEALED_LENGTH]) -> Result<CodePayload, CodeError> {
        let cipher = self.ciphers[usize::from(sealed[0])]
            .as_ref()
            .ok_or(CodeError::UnknownKey)?;
        let mut block = [0; 16];
        block.copy_from_slice(&sealed[1..]);
        let mut cipher_block = block.into();
        cipher.decrypt_block(&mut cipher_block);
        decode_block(&cipher_block).ok_or(CodeError::Forged)
    }
}

fn decode_block(block: &[u8]) -> Option<CodePayload> {
    if block[13..16] != [0; 3] {
        return None;
    }
    let person = u64::from_le_bytes(block[..8].try_into().ok()?);
    let issued_second = u32::from_le_bytes(block[8..12].try_into().ok()?);
    let scheme = match block[12] >> 4 {
        0 => Scheme::Yuekang,
        1 => Scheme::Suikang,
        _ => return None,
    };
    let form = match block[12] & 15 {
        0 => CodeForm::App,
        1 => CodeForm::Rotating,
        2 => CodeForm::Paper,
        _ => return None,
    };
    (person != 0).then_some(CodePayload {
        person: PersonId(person),
        issued_second,
        scheme,
        form,
    })
}

impl fmt::Debug for CodeKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.ciphers.iter().flatten().count();
        write!(
            f,
            "CodeKeys({count} secret keys, sealing under {})",
            self.sealing
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(ids: &[u8]) -> CodeKeys {
        CodeKeys::new(&ids.iter().map(|id| (*id, [*id; 32])).collect()).unwrap()
    }

    fn payload(person: u64, issued_second: u32) -> CodePayload {
        CodePayload {
            person: PersonId(person),
            issued_second,
            scheme: Scheme::Suikang,
            form: CodeForm::Paper,
        }
    }

    proptest! {
        #[test]
        fn p4_a_code_opens_to_what_was_sealed(person in 1_u64.., second: u32) {
            let keys = keys(&[1]);
            let code = keys.seal(&payload(person, second));
            prop_assert_eq!(code.len(), CODE_LENGTH);
            prop_assert_eq!(keys.open(&code), Ok(payload(person, second)));
        }

        #[test]
        fn p4_an_altered_code_does_not_open(person in 1_u64.., at in 2_usize..22, to in "[A-Za-z0-9_-]") {
            let keys = keys(&[1]);
            let code = keys.seal(&payload(person, 9));
            let mut altered = code.clone();
            altered.replace_range(at..=at, &to);
            prop_assume!(altered != code);
            prop_assert_eq!(keys.open(&altered), Err(CodeError::Forged));
        }

        #[test]
        fn p4_any_text_is_answered_without_a_panic(text in "\\PC*") {
            let _ = keys(&[1]).open(&text);
        }
    }

    #[test]
    fn p4_a_rotated_key_still_opens_and_a_retired_one_does_not() {
        let old_code = keys(&[1]).seal(&payload(5, 6));
        assert_eq!(keys(&[1, 2]).open(&old_code), Ok(payload(5, 6)));
        assert_eq!(keys(&[2]).open(&old_code), Err(CodeError::UnknownKey));
        assert_ne!(keys(&[1, 2]).seal(&payload(5, 6)), old_code);
    }

    #[test]
    fn p4_a_key_opens_before_it_seals() {
        let both = keys(&[1, 2]).sealing_under(1);
        assert_eq!(both.ids(), [1, 2]);
        assert_eq!(
            keys(&[1]).open(&both.seal(&payload(5, 6))),
            Ok(payload(5, 6))
        );
        let newer = keys(&[2]).seal(&payload(5, 6));
        assert_eq!(both.open(&newer), Ok(payload(5, 6)));
        assert_eq!(keys(&[1]).sealing_under(9).sealing_id(), 1);
    }

    #[test]
    fn p4_two_issues_of_one_person_share_no_text() {
        let keys = keys(&[1]);
        let (first, second) = (keys.seal(&payload(5, 6)), keys.seal(&payload(5, 7)));
        let same = first
            .bytes()
            .zip(second.bytes())
            .skip(2)
            .filter(|(a, b)| a == b)
            .count();
        assert!(same < 8, "{same} of 21 characters are the same");
    }

    #[test]
    fn p4_trailing_bits_of_the_text_cannot_be_altered_unseen() {
        let keys = keys(&[1]);
        let code = keys.seal(&payload(5, 6));
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let opening = alphabet
            .chars()
            .filter(|last| keys.open(&format!("{}{last}", &code[..22])).is_ok())
            .count();
        assert_eq!(opening, 1);
    }
}
