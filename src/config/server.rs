//! `[server]` and `[log]`.

use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use crate::base::limits;
use crate::config::files;
use crate::config::host;
use crate::config::model::{CertificateFiles, Log, LogFormat, LogLevel, Server};
use crate::config::section::{Field, Section, Wrong, as_number, kind};
use crate::config::source::quoted;
use crate::config::units;

pub(super) fn server(section: &Section<'_, '_>) -> Option<Server> {
    let hostname = section.text("hostname", host::own);
    let data_dir = section.text("data_dir", |text| path(section, text));
    let data_dir =
        section.required("data_dir", data_dir, "write data_dir = \"/var/lib/mailbearer\"");
    let certificate = certificate(section);
    let confirm_within = section.read("confirm_within", confirm_within);
    let max_message_octets = message_size(section);
    Some(Server {
        hostname: hostname.or_else(|| {
            let name = section.reader.surroundings.host_name.clone();
            name.unwrap_or_else(|| "localhost".to_owned())
        })?,
        data_dir: data_dir?,
        certificate: certificate?,
        confirm_within: confirm_within.or(limits::CONFIRM_WITHIN)?,
        max_message_octets: max_message_octets.or(limits::MESSAGE_OCTETS)?,
    })
}

pub(super) fn log(section: &Section<'_, '_>) -> Option<Log> {
    let format = section.choice("format", &[("text", LogFormat::Text), ("json", LogFormat::Json)]);
    let level = section.choice(
        "level",
        &[LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace]
            .map(|level| (level.as_str(), level)),
    );
    Some(Log { format: format.or(LogFormat::default())?, level: level.or(LogLevel::default())? })
}

/// A path that is not empty; it begins in the folder of the configuration file.
pub(super) fn path(section: &Section<'_, '_>, text: &str) -> Result<PathBuf, Wrong> {
    let example = "write a path; relative ones begin in the folder of the configuration";
    match text {
        "" => Err(Wrong::new("is empty", example)),
        text if text.chars().any(char::is_control) => Err(Wrong::new(
            "holds a control character: in double quotes \\t is one, for example",
            "write a Windows path in single quotes: 'C:\\temp\\mailbearer'",
        )),
        text => Ok(section.reader.path(text)),
    }
}

/// `max_message_size`: a size with its unit, or a number of octets.
pub(super) fn message_size(section: &Section<'_, '_>) -> Field<u64> {
    section.read("max_message_size", |value| {
        let range = limits::MESSAGE_OCTETS_LEAST..=limits::MESSAGE_OCTETS_MOST;
        let remedy = "write a size with its unit, such as \"35 MB\", or a number of octets";
        let octets = as_number(value).or_else(|| value.as_str().and_then(units::octets));
        let octets = octets.ok_or_else(|| {
            let what = match value.as_str() {
                Some(text) => format!("{} is not a size", quoted(text)),
                None => format!("is {}", kind(value)),
            };
            Wrong::new(what, remedy)
        })?;
        match range.contains(&octets) {
            true => Ok(octets),
            false => Err(Wrong::new(
                format!("{} is out of bounds", units::show_octets(octets)),
                format!(
                    "write a size from {} (RFC 5321 §4.5.3.1.7) to {}",
                    units::show_octets(*range.start()),
                    units::show_octets(*range.end())
                ),
            )),
        }
    })
}

fn confirm_within(value: &DeValue<'_>) -> Result<Duration, Wrong> {
    let range = limits::CONFIRM_WITHIN_LEAST..=limits::CONFIRM_WITHIN_MOST;
    let what = match value.as_str() {
        Some(text) => format!("{} is not a duration", quoted(text)),
        None => format!("is {}", kind(value)),
    };
    let remedy = "write a number with its unit in quotes, such as \"20s\" or \"2m\"";
    let duration = value.as_str().and_then(units::duration).ok_or(Wrong::new(what, remedy))?;
    match range.contains(&duration) {
        true => Ok(duration),
        false => Err(Wrong::new(
            format!("{} is out of bounds", quoted(value.as_str().unwrap_or_default())),
            format!(
                "write a duration from {} to {}: clients give up after some time",
                units::show_duration(*range.start()),
                units::show_duration(*range.end())
            ),
        )),
    }
}

/// Both files or none.
fn certificate(section: &Section<'_, '_>) -> Option<Option<CertificateFiles>> {
    let certificate = section.text("certificate", |text| files::certificates(path(section, text)?));
    let key = section.text("key", |text| files::private_key(path(section, text)?));
    for (there, missing, remedy) in [
        ("certificate", "key", "name the PEM file of its private key: key = \"…\""),
        ("key", "certificate", "name the PEM file of its certificate: certificate = \"…\""),
    ] {
        if section.has(there) && !section.has(missing) {
            section.mistake(there, Wrong::new(format!("{missing} is missing"), remedy));
            return None;
        }
    }
    match (certificate.optional()?, key.optional()?) {
        (Some(certificate), Some(key)) => Some(Some(CertificateFiles { certificate, key })),
        _ => Some(None),
    }
}
