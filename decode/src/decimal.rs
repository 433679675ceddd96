//! Decimals as the binary formats store them: big-endian two's complement of any width.

use crate::encode::{CellError, RejectClass, Value, push_scaled};
use std::fmt::Write as _;

/// Longer unscaled values are refused: Postgres's numeric ends at 131072 digits, and converting takes quadratic time.
const MAX_BYTES: usize = 1024;

/// Returns the decimal `unscaled / 10^scale`, exactly.
///
/// # Errors
/// Class `range` when it is unreasonably wide.
pub fn from_big_endian(unscaled: &[u8], scale: i8) -> Result<Value<'static>, CellError> {
    let negative = unscaled.first().is_some_and(|byte| byte & 0x80 != 0);
    let sign = if negative { 0xff } else { 0 };
    let significant = &unscaled[unscaled.iter().take_while(|&&byte| byte == sign).count()..];
    let keeps_sign = significant.first().is_none_or(|byte| (byte & 0x80 != 0) == negative);
    if significant.len() < 16 || significant.len() == 16 && keeps_sign {
        let mut bytes = [sign; 16];
        bytes[16 - significant.len()..].copy_from_slice(significant);
        return Ok(Value::Decimal(i128::from_be_bytes(bytes), scale));
    }
    if significant.len() > MAX_BYTES {
        return Err(CellError::new(RejectClass::Range, format!("decimal of {} bytes", unscaled.len())));
    }
    let digits = magnitude_digits(significant, negative);
    let mut text = String::with_capacity(digits.len() + 4);
    if negative {
        text.push('-');
    }
    push_scaled(&digits, scale, &mut |piece| text.push_str(piece));
    Ok(Value::Number(text.into()))
}

/// Returns the decimal digits of a value's magnitude; its sign bytes are cut off.
fn magnitude_digits(significant: &[u8], negative: bool) -> String {
    const GROUP: u64 = 1_000_000_000;
    // -x is !x + 1, and the one can carry into a byte of its own.
    let mut magnitude = vec![0; significant.len() + 1];
    let mut carry = negative;
    for (to, &from) in magnitude[1..].iter_mut().zip(significant).rev() {
        let byte = if negative { !from } else { from };
        (*to, carry) = byte.overflowing_add(u8::from(carry));
    }
    magnitude[0] = u8::from(carry);
    // Little-endian groups of nine digits.
    let mut groups = vec![0u64];
    for byte in magnitude {
        let mut carry = u64::from(byte);
        for group in &mut groups {
            let sum = *group * 256 + carry;
            *group = sum % GROUP;
            carry = sum / GROUP;
        }
        if carry > 0 {
            groups.push(carry);
        }
    }
    let mut digits = groups.pop().unwrap_or_default().to_string();
    for group in groups.iter().rev() {
        let _ = write!(digits, "{group:09}");
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wide_values_keep_every_digit() {
        // 2^128 and -2^128, by hand.
        let mut two_to_128 = vec![1];
        two_to_128.extend([0; 16]);
        check(&two_to_128, 0, "340282366920938463463374607431768211456");
        let mut minus = vec![0xff];
        minus.extend([0; 16]);
        check(&minus, 2, "-3402823669209384634633746074317682114.56");
        check(&[0x7f; 17], 45, "0.000043385334562092358133808765634594698395519");
        assert_eq!(from_big_endian(&[0x55; MAX_BYTES + 1], 0).map_err(|error| error.class), Err(RejectClass::Range));
    }

    #[test]
    fn thirty_eight_digits_fit_the_narrow_form() {
        let nines = 10i128.pow(38) - 1;
        for unscaled in [nines, -nines, i128::MAX, i128::MIN, 0, -1, 128, -129] {
            let mut bytes = vec![if unscaled < 0 { 0xff } else { 0 }; 3];
            bytes.extend(unscaled.to_be_bytes());
            assert_eq!(from_big_endian(&bytes, 7), Ok(Value::Decimal(unscaled, 7)));
        }
        assert_eq!(from_big_endian(&[], 2), Ok(Value::Decimal(0, 2)));
    }

    #[test]
    fn the_point_goes_where_the_scale_says() {
        let pushed = |digits: &str, scale| {
            let mut out = String::new();
            push_scaled(digits, scale, &mut |piece| out.push_str(piece));
            out
        };
        assert_eq!(pushed("110", 2), "1.10");
        assert_eq!(pushed("5", 3), "0.005");
        assert_eq!(pushed("0", 2), "0.00");
        assert_eq!(pushed("7", -3), "7000");
        assert_eq!(pushed("0", -3), "0");
    }

    proptest! {
        #[test]
        fn wide_form_agrees_with_i128(unscaled: i128) {
            let bytes = unscaled.to_be_bytes();
            let digits = magnitude_digits(&bytes, unscaled < 0);
            prop_assert_eq!(digits, unscaled.unsigned_abs().to_string());
        }
    }

    fn check(bytes: &[u8], scale: i8, expected: &str) {
        assert_eq!(from_big_endian(bytes, scale), Ok(Value::Number(expected.to_owned().into())));
    }
}
