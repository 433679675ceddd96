//! Scaler.
