//! Simple tokens: random, in the memory of every member, forgotten some time after their last use.
//!
//! Owns: [`Tokens`]. Called by: the gate, and apply through `AppState::logged_in`. Invariants: a token counts only while
//! its login does ([`Auth::login_counts`]), so nobody has to take tokens away when a password changes; a token is
//! looked up by its hash in a map, so the time an answer takes says nothing about other tokens' bytes.
//! Source: etcd 3.7 `server/auth/simple_token.go`.

use std::collections::HashMap;
use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use keelson_mvcc::auth::{Auth, Login};
use parking_lot::Mutex;

/// Letters of the random part.
const LETTERS: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
/// Length of the random part: 91 bits.
const LENGTH: usize = 16;
/// Forgotten tokens are cleared away at most this often.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct Tokens {
    lifetime: Duration,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    tokens: HashMap<String, Entry>,
    swept_at: Duration,
}

struct Entry {
    user: String,
    /// Auth revision of the login.
    revision: u64,
    ends_at: Duration,
}

impl Tokens {
    /// Tokens live for `lifetime` after their last use.
    pub(crate) fn new(lifetime: Duration) -> Self {
        Tokens { lifetime, table: Mutex::default() }
    }

    /// Takes up applied logins.
    pub(crate) fn add(&self, logins: &[Login], now: Duration) {
        let mut table = self.table.lock();
        if now >= table.swept_at + SWEEP_INTERVAL {
            table.swept_at = now;
            table.tokens.retain(|_, entry| entry.ends_at > now);
        }
        for Login { user, token, revision } in logins.iter().cloned() {
            table.tokens.insert(token, Entry { user, revision, ends_at: now + self.lifetime });
        }
    }

    /// Whose token it is; its life begins again.
    pub(crate) fn user(&self, token: &str, auth: &Auth, now: Duration) -> Option<String> {
        let mut table = self.table.lock();
        let entry = table.tokens.get_mut(token)?;
        if entry.ends_at <= now || !auth.login_counts(&entry.user, entry.revision) {
            table.tokens.remove(token);
            return None;
        }
        entry.ends_at = now + self.lifetime;
        Some(entry.user.clone())
    }
}

/// The random part of a new token.
pub(crate) fn new_prefix() -> String {
    let random = SystemRandom::new();
    let mut prefix = String::with_capacity(LENGTH);
    while prefix.len() < LENGTH {
        let mut bytes = [0; 2 * LENGTH];
        random.fill(&mut bytes).expect("the system gives random bytes");
        // Bytes beyond the last whole multiple would favour the first letters.
        let usable =
            bytes.iter().filter(|byte| **byte < 208).map(|byte| LETTERS[usize::from(byte % 52)] as char);
        prefix.extend(usable.take(LENGTH - prefix.len()));
    }
    prefix
}

/// Index of the log entry that made a token, by its own account.
pub(crate) fn index(token: &str) -> Option<u64> {
    let (prefix, index) = token.split_once('.')?;
    (prefix.len() == LENGTH).then_some(())?;
    index.parse().ok()
}

#[cfg(test)]
mod tests {
    use keelson_mvcc::{ApplyEntry, AuthCommand, Command, LogPosition, MemoryEngine, Store, StoreOptions};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Authentication switched on, with `root` alone.
    fn auth() -> std::sync::Arc<Auth> {
        let mut store = Store::open(MemoryEngine::default(), StoreOptions::default()).unwrap();
        let root = || "root".to_owned();
        let commands = [
            AuthCommand::UserAdd { name: root(), password: None },
            AuthCommand::UserGrantRole { user: root(), role: root() },
            AuthCommand::Enable,
        ];
        let position = LogPosition { term: 1, leader: 1, index: 0 };
        let commands = commands.into_iter().map(Command::Auth).collect();
        store.apply(&[ApplyEntry::Commands { position, commands }]).unwrap();
        store.view().auth().clone()
    }

    fn login(revision: u64) -> Login {
        Login { user: "root".to_owned(), token: "t".to_owned(), revision }
    }

    #[test]
    fn a_token_lives_on_while_it_is_used() {
        let (tokens, auth) = (Tokens::new(10 * SECOND), auth());
        tokens.add(&[login(auth.revision())], SECOND);
        for now in [2, 11, 20] {
            assert_eq!(tokens.user("t", &auth, now * SECOND).as_deref(), Some("root"));
        }
        assert_eq!(tokens.user("t", &auth, 30 * SECOND), None);
        assert_eq!(tokens.user("other", &auth, SECOND), None);
    }

    #[test]
    fn unused_tokens_are_cleared_away() {
        let (tokens, auth) = (Tokens::new(10 * SECOND), auth());
        tokens.add(&[login(auth.revision())], SECOND);
        tokens.add(&[], 12 * SECOND);
        assert!(tokens.table.lock().tokens.is_empty());
    }

    #[test]
    fn a_token_ends_with_its_login() {
        let (tokens, auth) = (Tokens::new(10 * SECOND), auth());
        tokens.add(&[login(1)], SECOND);
        assert_eq!(tokens.user("t", &auth, SECOND), None);
    }

    #[test]
    fn prefixes_are_letters_and_differ() {
        let (one, other) = (new_prefix(), new_prefix());
        assert_ne!(one, other);
        assert!(one.len() == LENGTH && one.bytes().all(|byte| byte.is_ascii_alphabetic()));
        assert_eq!(index(&format!("{one}.17")), Some(17));
        assert_eq!(index("nonsense"), None);
        assert_eq!(index("short.17"), None);
    }
}
