//! What a grant belongs to.
//!
//! Owns [`binding`], the part of the configuration that a grant was obtained with, and
//! [`changed_since`]. A refresh token of one registration is of no use to another one, and asking
//! with it would look like theft to the provider. The secret of the client is no part of it: a new
//! one makes no grant worthless.

use serde_json::{Map, Value, json};

use crate::config::Account;
use crate::store::StoredGrant;

/// The parts, and what they are called in the configuration.
const PARTS: [(&str, &str); 5] = [
    ("grant", "grant"),
    ("token_url", "provider or tenant"),
    ("client_id", "client_id"),
    ("scopes", "scopes"),
    ("signs_in_as", "signs_in_as"),
];

/// What a grant of this account is bound to, as text for the store.
pub(super) fn binding(account: &Account) -> String {
    Value::Object(parts(account)).to_string()
}

fn parts(account: &Account) -> Map<String, Value> {
    let mut scopes = account.provider.scopes.clone();
    scopes.sort();
    scopes.dedup();
    // However a person signs in, the refresh token is the same kind of thing.
    let grant = match account.grant.needs_sign_in() {
        true => "sign-in",
        false => account.grant.as_str(),
    };
    let user = account.signs_in_as.as_ref().map(|user| user.to_key());
    let parts = [
        json!(grant),
        json!(account.provider.token_url.as_str()),
        json!(account.client.id),
        json!(scopes),
        json!(user),
    ];
    PARTS.iter().map(|&(name, _)| name.to_owned()).zip(parts).collect()
}

/// The keys of the configuration that are others than those with which the grant was obtained; none
/// if it may be used. One that was stored before this was recorded may.
pub fn changed_since(grant: &StoredGrant, account: &Account) -> Option<String> {
    let then = &grant.origin.as_ref()?.bound_to;
    let now = parts(account);
    let then: Map<String, Value> = serde_json::from_str(then).unwrap_or_default();
    let changed: Vec<_> = PARTS
        .iter()
        .filter(|(name, _)| then.get(*name) != now.get(*name))
        .map(|&(_, key)| key)
        .collect();
    (!changed.is_empty()).then(|| changed.join(", "))
}
