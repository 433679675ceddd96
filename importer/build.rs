//! Builds again when a migration is added: the macro that embeds them sees only the files it found before.

fn main() {
    println!("cargo:rerun-if-changed=../migrations");
}
