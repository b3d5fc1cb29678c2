//! Quantonium: cryptography as a service in one static binary.

pub mod build_info;
pub mod clock;
pub mod console;
pub mod encoding;
pub mod exit;
pub mod limits;
pub mod model;
pub mod secret;

pub mod crypto;

pub mod audit;
pub mod auth;
pub mod keyring;

pub mod store;

pub mod http;
pub mod reactor;

pub mod api;

pub mod sandbox;

pub mod cli;
pub mod config;
pub mod keeper;
pub mod server;
