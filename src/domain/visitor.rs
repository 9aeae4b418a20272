//! Visitors: shoppers, associates and cash shoppers, with the state of their account and their payment method.

use std::fmt;

use chrono::{DateTime, Months, NaiveDate, NaiveTime, Utc};

use super::ids::{DeviceId, PaymentSourceId, VisitorId};
use super::words::words;

/// The kind of visitor: `visitorDetails.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VisitorType {
    /// Pays by card.
    Shopper,
    /// An employee of the store.
    Associate,
    /// Pays in cash, at stores that take it.
    CashShopper,
}

words!(VisitorType { Shopper = "SHOPPER", Associate = "ASSOCIATE", CashShopper = "CASH_SHOPPER" });

/// A visitor as the gate's answer names them: `visitorDetails`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Visitor {
    /// The id that the retailer gave this visitor.
    pub id: VisitorId,
    /// The type of visitor.
    pub kind: VisitorType,
}

/// A visitor as the directory keeps them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shopper {
    /// The visitor's id and type.
    pub visitor: Visitor,
    /// The state of the account.
    pub account: Account,
    /// The payment method, if the retailer keeps one for this visitor.
    pub payment_method: Option<PaymentMethod>,
}

/// The state of an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Account {
    /// In good standing.
    #[default]
    Active,
    /// Blocked, for example for fraud or an outstanding balance.
    Flagged,
}

words!(Account { Active = "active", Flagged = "flagged" });

/// A payment method, such as a card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentMethod {
    /// Its id, sent as `paymentSource` if the configuration includes it in answers.
    pub id: Option<PaymentSourceId>,
    /// The last month in which it is valid.
    pub last_valid_month: Month,
}

/// A month of a year, as printed on a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Month {
    first_day: NaiveDate,
}

impl Month {
    /// Reads `YYYY-MM`.
    pub fn parse(text: &str) -> Option<Self> {
        let (year, month) = text.split_once('-')?;
        let digits = |part: &str, length| part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(year, 4) || !digits(month, 2) {
            return None;
        }
        let first_day = NaiveDate::from_ymd_opt(year.parse().ok()?, month.parse().ok()?, 1)?;
        Some(Self { first_day })
    }

    /// Whether the month has ended at `time`: from 00:00 UTC on the first day of the next month.
    pub fn has_ended_at(self, time: DateTime<Utc>) -> bool {
        self.first_day
            .checked_add_months(Months::new(1))
            .is_some_and(|next| time >= next.and_time(NaiveTime::MIN).and_utc())
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first_day.format("%Y-%m"))
    }
}

/// A shopper found by a key or a recognition token, and the device that the key or token identifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The shopper that the key or token belongs to.
    pub shopper: std::sync::Arc<Shopper>,
    /// The shopper's device, if the key or token identifies one.
    pub device: Option<DeviceId>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::scan::parse_utc;

    #[test]
    fn payment_method_is_valid_to_the_last_instant_of_its_month() {
        for (last_month, time, has_ended) in [
            ("2024-02", "2024-02-01T00:00:00Z", false),
            ("2024-02", "2024-02-29T23:59:59.999999999Z", false),
            ("2024-02", "2024-03-01T00:00:00Z", true),
            ("2024-02", "2025-01-01T00:00:00Z", true),
            ("2024-02", "2019-01-01T00:00:00Z", false),
            ("2023-02", "2023-02-28T23:59:59.999999999Z", false),
            ("2023-02", "2023-03-01T00:00:00Z", true),
            ("2023-12", "2023-12-31T23:59:59.999999999Z", false),
            ("2023-12", "2024-01-01T00:00:00Z", true),
            ("2024-11", "2024-11-30T23:59:59.999999999+00:00", false),
            ("2024-11", "2024-12-01T00:00:00.000000001+00:00", true),
            ("2099-12", "9999-12-31T23:59:59.999999999Z", true),
        ] {
            let month = Month::parse(last_month).expect("a month");
            assert_eq!(month.has_ended_at(parse_utc(time).expect("valid")), has_ended, "{last_month} at {time}");
        }
    }

    #[test]
    fn month_is_read_only_as_yyyy_mm() {
        for bad in ["2023", "2023-13", "2023-00", "23-12", "2023-1", "2023-12-01", "+023-12", "2023-+1"] {
            assert_eq!(Month::parse(bad), None, "{bad}");
        }
    }
}
