# The Rust compiler that Debian builds web browsers with, which is newer than its `rustc`, unpacked and not installed. For the
# scripts that test other systems, which source this file; Debian 12 on x86-64.

# debian_rust HOME PACKAGE...: the compiler (HOME/bin/rustc, rustdoc and cargo-clippy) and more packages; those named `…:arm64` go
# to HOME/arm, the others to HOME/x86. Does nothing where it is done.
debian_rust() {
    local home=$1
    shift
    [ ! -e "$home/ready" ] || return 0
    rm -rf "$home"
    mkdir -p "$home"/{bin,packages,x86,arm,apt/lists/partial,apt/archives/partial}
    # A package state of its own, which knows both architectures.
    : > "$home/apt/status"
    cat > "$home/apt/apt.conf" << CONF
APT::Architecture "amd64";
APT::Architectures { "amd64"; "arm64"; };
APT::Sandbox::User "root";
Dir::State "$home/apt";
Dir::State::status "$home/apt/status";
Dir::Cache "$home/apt";
CONF
    (
        export APT_CONFIG=$home/apt/apt.conf
        cd "$home/packages"
        apt-get -qq update
        needs() { apt-cache depends "$1" | sed -n 's/ *Depends: //p' | grep "$2"; }
        library=$(needs libstd-rust-web-dev '^libstd-rust-web-[0-9]')
        apt-get -qq download rustc-web rust-web-clippy libstd-rust-web-dev "$library" "$(needs "$library" '^libllvm')" "$@"
    )
    local package tool
    for package in "$home"/packages/*.deb; do
        case $package in
            *_arm64.deb) dpkg-deb -x "$package" "$home/arm" ;;
            *) dpkg-deb -x "$package" "$home/x86" ;;
        esac
    done
    rm -r "$home/packages" "$home/apt"
    for tool in rustc rustdoc cargo-clippy; do
        # Not by `sh`, which drops variables with a hyphen in their name, such as CARGO_BIN_EXE_qembed-q.
        cat > "$home/bin/$tool" << TOOL
#!/bin/bash
LD_LIBRARY_PATH=$home/x86/usr/lib/x86_64-linux-gnu exec $home/x86/usr/bin/$tool "\$@"
TOOL
    done
    chmod +x "$home"/bin/*
    touch "$home/ready"
}

# debian_rust_std HOME TRIPLE: the standard library of a system that Debian has none for, built of its source (the package
# rust-web-src), as the dependency of a crate that holds nothing. Does nothing where it is done.
debian_rust_std() {
    local home=$1 triple=$2
    local library=$home/x86/usr/lib/rustlib/$triple/lib
    [ ! -e "$library" ] || return 0
    rm -rf "$home/std"
    mkdir -p "$home/std"
    touch "$home/std/nothing.rs"
    cat > "$home/std/Cargo.toml" << TOML
[package]
name = "nothing"
edition = "2024"
[lib]
path = "nothing.rs"
[workspace]
TOML
    (
        cd "$home/std"
        export RUSTC=$home/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$home/std/build
        cargo build --quiet --release --target "$triple" -Zbuild-std=std,panic_unwind,proc_macro,test
    )
    rm "$home/std/build/$triple/release/deps"/libnothing*
    mkdir -p "$library.new"
    cp "$home/std/build/$triple/release/deps"/*.rlib "$library.new"
    rm -r "$home/std"
    mv "$library.new" "$library"
}
