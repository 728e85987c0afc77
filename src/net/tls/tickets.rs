//! Session tickets (RFC 8446 section 4.6.1) with keys that every replica of agimo derives from one secret, so that a client can
//! resume its session at any of them. Nothing is sent between replicas.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ring::aead::{self, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::server::ProducesTickets;

use super::server::ClientVerification;
use super::watched_files::InvalidFile;

/// What the keys are derived from.
pub struct Secret(hkdf::Prk);

/// Encrypts the state of a session. A ticket is the number of the period in which it was made, a nonce, and the sealed state.
struct SharedTickets {
    /// What the keys of this secret are for: they differ where other certificates of clients are accepted, because a ticket
    /// stands for a client that has been verified.
    secret: hkdf::Prk,
    context: Vec<u8>,
    random: SystemRandom,
    now: fn() -> u64,
}

/// A secret is at least as long as the keys that are derived from it.
const SHORTEST_SECRET: usize = 32;
/// How long tickets are made with one key, in seconds. They are accepted in the next period, too.
const PERIOD: u64 = 6 * 60 * 60;
/// Length of the number of a period in a ticket.
const PERIOD_LENGTH: usize = 8;

/// The content of a file with a secret.
///
/// # Errors
/// When it is too short.
pub fn parse_secret(files: &[Vec<u8>]) -> Result<Secret, InvalidFile> {
    let [secret] = files else { return Err(InvalidFile::incomplete()) };
    if secret.len() < SHORTEST_SECRET {
        let problem =
            format!("the secret has {} bytes, it needs at least {SHORTEST_SECRET}", secret.len());
        return Err(InvalidFile { index: 0, problem });
    }
    let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"agimo session tickets");
    Ok(Secret(salt.extract(secret)))
}

/// Tickets with keys of this secret, for clients of which such certificates are asked.
pub fn from_secret(
    secret: &Secret,
    clients: Option<&ClientVerification>,
) -> Arc<dyn ProducesTickets> {
    let mut context = Vec::new();
    if let Some(ClientVerification { issuers, is_required }) = clients {
        context.push(u8::from(*is_required));
        context.extend(issuers.roots.iter().flat_map(|root| root.subject_public_key_info.to_vec()));
    }
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Arc::new(SharedTickets { secret: secret.0.clone(), context, random: SystemRandom::new(), now })
}

// === impl SharedTickets ===

impl SharedTickets {
    fn period(&self) -> u64 {
        (self.now)() / PERIOD
    }

    fn key(&self, period: u64) -> Option<LessSafeKey> {
        let info = [&period.to_be_bytes()[..], &self.context];
        let derived = self.secret.expand(&info, &aead::AES_256_GCM).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(derived)))
    }
}

impl ProducesTickets for SharedTickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        PERIOD as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let period = self.period();
        let key = self.key(period)?;
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).ok()?;
        let mut sealed = plain.to_vec();
        let period = period.to_be_bytes();
        let nonce_used = Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(nonce_used, Aad::from(period), &mut sealed).ok()?;
        Some([&period[..], &nonce, &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (period, rest) = ticket.split_first_chunk::<PERIOD_LENGTH>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let made_in = u64::from_be_bytes(*period);
        // The clock of the replica that made it may be ahead.
        if self.period().abs_diff(made_in) > 1 {
            return None;
        }
        let key = self.key(made_in)?;
        let mut state = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = key.open_in_place(nonce, Aad::from(*period), &mut state).ok()?;
        Some(plain.to_vec())
    }
}

impl fmt::Debug for SharedTickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedTickets").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tickets(secret: &[u8], context: &[u8], now: fn() -> u64) -> SharedTickets {
        let secret = parse_secret(&[secret.to_vec()]).ok().unwrap().0;
        SharedTickets { secret, context: context.to_vec(), random: SystemRandom::new(), now }
    }

    #[test]
    fn a_ticket_is_accepted_by_whoever_has_the_secret_for_a_while() {
        const NOW: u64 = PERIOD * 1000;
        let secret = [7; 32];
        let one = tickets(&secret, b"", || NOW);
        let ticket = one.encrypt(b"state").unwrap();
        assert_ne!(ticket, one.encrypt(b"state").unwrap());
        let opened = |other: SharedTickets| other.decrypt(&ticket);
        assert_eq!(opened(tickets(&secret, b"", || NOW)).unwrap(), b"state");
        assert_eq!(opened(tickets(&secret, b"", || NOW + PERIOD)).unwrap(), b"state");
        assert_eq!(opened(tickets(&secret, b"", || NOW - 1)).unwrap(), b"state");
        assert_eq!(opened(tickets(&secret, b"", || NOW + 2 * PERIOD)), None);
        assert_eq!(opened(tickets(&secret, b"issuer", || NOW)), None);
        assert_eq!(opened(tickets(&[8; 32], b"", || NOW)), None);
        for length in 0..ticket.len() {
            assert_eq!(one.decrypt(&ticket[..length]), None, "{length}");
        }
    }

    #[test]
    fn a_short_secret_is_refused() {
        let refused = parse_secret(&[vec![0; 31]]).err().unwrap();
        assert_eq!(refused.problem, "the secret has 31 bytes, it needs at least 32");
    }
}
