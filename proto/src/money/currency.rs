//! The currencies of ISO 4217.

use std::{fmt, str::FromStr};

use super::MoneyError;

/// A currency of ISO 4217 (list one, January 2026) that amounts can be in: codes for metals, bond units, tests (XTS) and no
/// currency at all (XXX) are none. Which ones a shop takes is the shop's business.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Currency([u8; 3]);

/// Every code, by the digits after the decimal point.
const CODES: [(u32, &str); 4] = [
    (0, "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"),
    (
        2,
        "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW CNY COP COU \
         CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES \
         KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR \
         NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP \
         TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG",
    ),
    (3, "BHD IQD JOD KWD LYD OMR TND"),
    (4, "CLF UYW"),
];

impl Currency {
    /// The code, such as `EUR`.
    pub fn code(&self) -> &str {
        // Only ASCII letters get in.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Digits after the decimal point: how many minor units make a major one.
    pub fn exponent(self) -> u32 {
        // Only listed codes get in.
        exponent(self.code()).unwrap_or_default()
    }

    /// Every currency.
    pub fn all() -> impl Iterator<Item = Self> {
        let codes = CODES.iter().flat_map(|(_, codes)| codes.split(' '));
        codes.filter_map(|code| Some(Self(code.as_bytes().try_into().ok()?)))
    }
}

fn exponent(code: &str) -> Option<u32> {
    let listed = |(_, codes): &&(u32, &str)| codes.split(' ').any(|listed| listed == code);
    CODES.iter().find(listed).map(|(exponent, _)| *exponent)
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl FromStr for Currency {
    type Err = MoneyError;

    fn from_str(code: &str) -> Result<Self, MoneyError> {
        match <[u8; 3]>::try_from(code.as_bytes()) {
            Ok(bytes) if exponent(code).is_some() => Ok(Self(bytes)),
            _ => Err(MoneyError::Currency(code.chars().take(16).collect())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_currencies_of_iso_4217_are_read() {
        assert_eq!("EUR".parse::<Currency>().map(|c| c.to_string()), Ok("EUR".into()));
        for bad in ["", "eur", "EURO", "E1R", "€", "EUR USD", "XXX", "XTS", "XAU", "ZZZ", "DEM", " EU"] {
            assert!(matches!(bad.parse::<Currency>(), Err(MoneyError::Currency(_))), "{bad}");
        }
    }

    #[test]
    fn each_is_listed_once_and_read_back() {
        let all: std::collections::BTreeSet<Currency> = Currency::all().collect();
        assert_eq!((all.len(), Currency::all().count()), (164, 164));
        for currency in all {
            assert_eq!(currency.code().parse(), Ok(currency));
        }
    }

    #[test]
    fn minor_units_follow_iso_4217() {
        let exponent = |code: &str| code.parse::<Currency>().map(Currency::exponent);
        assert_eq!(
            [exponent("JPY"), exponent("EUR"), exponent("KWD"), exponent("CLF")],
            [Ok(0), Ok(2), Ok(3), Ok(4)]
        );
    }
}
