//! Compiles `kernels/*.cu` as C++17.
//!
//! With the feature `asan` the kernels watch their accesses; the program that links them needs the sanitizer's runtime
//! before its own: `LD_PRELOAD=$(g++ -print-file-name=libasan.so) cargo test -p dyt-simt --features asan`.

/// What is compiled of `kernels`.
const KERNELS: [&str; 8] = [
    "pointwise",
    "pointwise_options",
    "rownorm",
    "rownorm_options",
    "rownorm_long",
    "rownorm_long_options",
    "rownorm_first",
    "fold",
];

fn main() {
    println!("cargo::rerun-if-changed=cpp");
    println!("cargo::rerun-if-changed=../kernels");
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .opt_level(2)
        .include("cpp")
        .include("../kernels")
        .files(["simt", "faults"].map(|name| format!("cpp/{name}.cpp")))
        .files(KERNELS.map(|name| format!("cpp/{name}.cpp")));
    // A product and a sum are fused where the kernels say so, and nowhere else.
    build.flag("-ffp-contract=off").flag("-Wno-unknown-pragmas");
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("fma") {
        build.flag("-mfma");
    }
    if std::env::var_os("CARGO_FEATURE_ASAN").is_some() {
        build.flag("-fsanitize=address").flag("-g1");
        println!("cargo::rustc-link-lib=dylib=asan");
    }
    build.compile("dyt_simt");
    driver();
}

/// Builds the driver without a GPU, which the tests of the CUDA host side load in the place of NVIDIA's. Its name inside
/// is that of the real one, so that whoever looks for the driver afterwards gets this one.
fn driver() {
    println!("cargo::rerun-if-changed=driver");
    let out = std::env::var("OUT_DIR").unwrap_or_default();
    let library = format!("{out}/libcuda_fake.so");
    let mut command = cc::Build::new().get_compiler().to_command();
    command.args([
        "-std=gnu11",
        "-O1",
        "-shared",
        "-fPIC",
        "-Wl,-soname,libcuda.so",
        "driver/fake.c",
        "-o",
        &library,
    ]);
    // Where it cannot be built, its tests say so.
    if !command.status().is_ok_and(|status| status.success()) {
        println!("cargo::warning=the fake driver was not built");
    }
    println!("cargo::rustc-env=DYT_FAKE_DRIVER={library}");
}
