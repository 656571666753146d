//! The end of a grant, on purpose.
//!
//! Owns [`log_out`]. The stored grant goes first, since nothing can go wrong with that; a daemon on
//! the same store notices within its poll. Then the provider is told, where it can be (RFC 7009).

use crate::base::Secret;
use crate::config::Account;
use crate::net::{HttpClient, HttpPatience};
use crate::oauth::revocation_request;
use crate::store::{Store, StoreError};

/// What the provider made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// The refresh token is of no use any more.
    Revoked,
    /// This provider cannot be told: the token ends by itself, or where people manage their account.
    NotOffered,
    /// There was no refresh token that could be read.
    NothingToRevoke,
    /// The provider was asked and did not do it. It may still take the token.
    Failed {
        /// What happened, safe to show.
        reason: String,
    },
}

/// Removes the account's grant, and has the provider end it. None: there was no grant.
pub async fn log_out(account: &Account, store: &Store) -> Result<Option<Revocation>, StoreError> {
    let name = account.name.as_str();
    let refresh_token = match store.grant(name).await {
        Ok(grant) => grant.and_then(|grant| grant.refresh_token),
        // What cannot be opened can only be removed.
        Err(StoreError::WrongKey { .. } | StoreError::Damaged { .. }) => None,
        Err(error) => return Err(error),
    };
    if !store.remove_grant(name).await? {
        return Ok(None);
    }
    tracing::info!(account = name, event = "logged_out", "token");
    let Some(refresh_token) = refresh_token else { return Ok(Some(Revocation::NothingToRevoke)) };
    Ok(Some(match revoke(account, &refresh_token).await {
        Ok(revocation) => revocation,
        Err(reason) => Revocation::Failed { reason: refresh_token.redact(&reason) },
    }))
}

async fn revoke(account: &Account, refresh_token: &Secret) -> Result<Revocation, String> {
    let provider = &account.provider;
    let Some(url) = &provider.revoke_url else { return Ok(Revocation::NotOffered) };
    let http = HttpClient::new(provider.ca_file.as_deref(), HttpPatience::default())
        .map_err(|error| error.to_string())?;
    let request = revocation_request(url, &account.client, refresh_token)
        .map_err(|error| error.to_string())?;
    let answer = http.send(request).await.map_err(|error| error.to_string())?;
    match answer.status {
        200..=299 => Ok(Revocation::Revoked),
        // RFC 7009 §2.2 wants 200 for a token that has ended already; Google says this.
        400 if error_of(&answer.body).as_deref() == Some("invalid_token") => {
            Ok(Revocation::Revoked)
        }
        status => Err(format!("the provider answered with status {status}")),
    }
}

fn error_of(body: &[u8]) -> Option<String> {
    let answer: serde_json::Value = serde_json::from_slice(body).ok()?;
    answer.get("error")?.as_str().map(str::to_owned)
}
