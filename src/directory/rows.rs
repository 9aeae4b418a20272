//! The JSON form of stores, shoppers, keys, tokens and customers: in the directory file, in imports and exports, and in
//! the administration API.
//!
//! Member names are camelCase; unknown members are refused, since they are usually misspelt. Keys, tokens, issuers and
//! subjects are only read, never written: an answer or an export has their digest instead.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::change::{Link, Profile};
use crate::digest::Digest;
use crate::domain::ids::{DeviceId, VisitorId};
use crate::domain::scan::KeyChannel;
use crate::domain::store::{ExitPolicy, GateDefault, Store};
use crate::domain::visitor::{Account, VisitorType};

/// A store.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = Store)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct StoreRow {
    /// Optional where the path already gives it. Must not be empty.
    #[serde(default)]
    pub(crate) id: String,
    #[serde(default = "default_enabled")]
    pub(crate) enabled: bool,
    #[serde(default)]
    pub(crate) takes_cash: bool,
    #[serde(default, with = "GateDefaultWord")]
    #[schema(value_type = GateDefaultWord, inline)]
    pub(crate) default_gate_decision: GateDefault,
    #[schema(minimum = 30, maximum = 90)]
    pub(crate) scan_key_window_seconds: Option<u64>,
    #[serde(default, with = "ExitPolicyWord")]
    #[schema(value_type = ExitPolicyWord, inline)]
    pub(crate) exit_policy: ExitPolicy,
}

/// Always: such a member is only read, never written. Not `skip_serializing`, with which utoipa leaves the member out of
/// the OpenAPI document.
fn is_secret(_: &Option<String>) -> bool {
    true
}

fn default_enabled() -> bool {
    true
}

/// A shopper.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = Shopper)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ShopperRow {
    /// Optional where the path already gives it. Must not be empty.
    #[serde(default)]
    pub(crate) id: String,
    #[serde(rename = "type", with = "VisitorTypeWord")]
    #[schema(value_type = VisitorTypeWord, inline)]
    pub(crate) kind: VisitorType,
    #[serde(default, with = "AccountWord")]
    #[schema(value_type = AccountWord, inline)]
    pub(crate) account: Account,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) payment_method: Option<PaymentMethodRow>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) devices: Vec<String>,
}

/// A payment method.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = PaymentMethod)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PaymentMethodRow {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    pub(crate) last_month: String,
}

/// An identity key, given as the key itself or as its digest from an export.
#[derive(Deserialize, Serialize, ToSchema)]
#[schema(as = IdentityKey)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct IdentityKeyRow {
    /// The key, 1 to 750 printable ASCII characters. Give this or `digest`. Never returned.
    #[serde(skip_serializing_if = "is_secret")]
    pub(crate) key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) shopper: Option<String>,
    #[serde(default, with = "channel", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ChannelWord>, inline)]
    pub(crate) channel: Option<KeyChannel>,
    #[serde(default)]
    pub(crate) revoked: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) device: Option<String>,
}

/// A recognition token, given as the token itself or as its digest from an export.
#[derive(Deserialize, Serialize, ToSchema)]
#[schema(as = RecognitionToken)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RecognitionTokenRow {
    /// The token, 32 letters and digits. Give this or `digest`. Without both, the connector makes a token and returns it in this answer only.
    #[serde(skip_serializing_if = "is_secret")]
    pub(crate) token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) shopper: Option<String>,
    #[serde(default)]
    pub(crate) revoked: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) device: Option<String>,
}

/// The link of a customer of an OpenID provider to a shopper, by issuer and subject or by digest.
#[derive(Deserialize, Serialize, ToSchema)]
#[schema(as = Customer)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CustomerRow {
    /// The provider's `issuer`. Give `issuer` and `subject`, or `digest`. Never returned.
    #[serde(skip_serializing_if = "is_secret")]
    pub(crate) issuer: Option<String>,
    /// The value of the provider's `customer_claim` (`sub` by default). Never returned.
    #[serde(skip_serializing_if = "is_secret")]
    pub(crate) subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) shopper: Option<String>,
}

impl From<&Store> for StoreRow {
    fn from(store: &Store) -> Self {
        Self {
            id: store.id.as_str().to_owned(),
            enabled: store.enabled,
            takes_cash: store.takes_cash,
            default_gate_decision: store.default_gate_decision,
            scan_key_window_seconds: Some(store.scan_key_window.seconds()),
            exit_policy: store.exit_policy,
        }
    }
}

impl From<&Profile> for ShopperRow {
    fn from(Profile { shopper, devices }: &Profile) -> Self {
        Self {
            id: shopper.visitor.id.as_str().to_owned(),
            kind: shopper.visitor.kind,
            account: shopper.account,
            payment_method: shopper.payment_method.as_ref().map(|method| PaymentMethodRow {
                id: method.id.as_ref().map(|id| id.as_str().to_owned()),
                last_month: method.last_valid_month.to_string(),
            }),
            devices: devices.iter().map(|device| device.as_str().to_owned()).collect(),
        }
    }
}

impl IdentityKeyRow {
    /// The row of a registered key.
    pub(crate) fn from_stored(digest: &Digest, link: &Link) -> Self {
        Self {
            key: None,
            digest: Some(digest.to_hex()),
            shopper: link.shopper.as_ref().map(VisitorId::as_str).map(str::to_owned),
            channel: link.channel,
            revoked: link.revoked,
            device: link.device.as_ref().map(DeviceId::as_str).map(str::to_owned),
        }
    }
}

impl RecognitionTokenRow {
    /// The row of a registered token.
    pub(crate) fn from_stored(digest: &Digest, link: &Link) -> Self {
        let IdentityKeyRow { digest, shopper, revoked, device, .. } = IdentityKeyRow::from_stored(digest, link);
        Self { token: None, digest, shopper, revoked, device }
    }
}

impl CustomerRow {
    /// The row of a linked customer.
    pub(crate) fn from_stored(digest: &Digest, shopper: &VisitorId) -> Self {
        Self { issuer: None, subject: None, digest: Some(digest.to_hex()), shopper: Some(shopper.as_str().to_owned()) }
    }
}

// The spelling of the domain's enumerations.

#[derive(Deserialize, Serialize, ToSchema)]
#[serde(remote = "GateDefault", rename_all = "snake_case")]
enum GateDefaultWord {
    Open,
    Closed,
}

#[derive(Deserialize, Serialize, ToSchema)]
#[serde(remote = "ExitPolicy", rename_all = "snake_case")]
enum ExitPolicyWord {
    LetOut,
    CheckAccount,
}

#[derive(Deserialize, Serialize, ToSchema)]
#[serde(remote = "VisitorType", rename_all = "SCREAMING_SNAKE_CASE")]
enum VisitorTypeWord {
    Shopper,
    Associate,
    CashShopper,
}

#[derive(Deserialize, Serialize, ToSchema)]
#[serde(remote = "Account", rename_all = "snake_case")]
enum AccountWord {
    Active,
    Flagged,
}

#[derive(Deserialize, Serialize, ToSchema)]
#[serde(remote = "KeyChannel", rename_all = "SCREAMING_SNAKE_CASE")]
enum ChannelWord {
    Optical,
    Radio,
}

/// An absent or null channel is any channel.
pub(super) mod channel {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{ChannelWord, KeyChannel};

    #[derive(Deserialize, Serialize)]
    struct Word(#[serde(with = "ChannelWord")] KeyChannel);

    pub(in crate::directory) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<KeyChannel>, D::Error> {
        Ok(Option::<Word>::deserialize(deserializer)?.map(|Word(channel)| channel))
    }

    #[expect(clippy::ref_option, reason = "serde passes the field by reference")]
    pub(in crate::directory) fn serialize<S: Serializer>(
        channel: &Option<KeyChannel>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        channel.map(Word).serialize(serializer)
    }
}
