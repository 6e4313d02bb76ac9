//! Half precision on CubeCL's CPU runtime, which reports that it supports every type.
//!
//! Its compiler rounds to half precision with one instruction if the CPU has it, else with a call of the compiler's
//! support library. If that library is too old for the call (`__truncsfbf2` came with GCC 13), the kernel cannot be
//! linked, and its output is not written.

use burn::tensor::DType;

/// Whether kernels compiled for this CPU can round f32 to `dtype`.
pub(crate) fn rounds_to(dtype: DType) -> bool {
    match dtype {
        DType::F16 => has_f16() || exports(c"__truncsfhf2"),
        DType::BF16 => has_bf16() || exports(c"__truncsfbf2"),
        _ => true,
    }
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn has_f16() -> bool {
    std::is_x86_feature_detected!("f16c")
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn has_bf16() -> bool {
    std::is_x86_feature_detected!("avx512bf16") && std::is_x86_feature_detected!("avx512vl")
}

/// Every 64-bit Arm CPU converts between f32 and f16.
#[cfg(not(any(target_arch = "x86", target_arch = "x86_64")))]
fn has_f16() -> bool {
    cfg!(target_arch = "aarch64")
}

#[cfg(target_arch = "aarch64")]
fn has_bf16() -> bool {
    std::arch::is_aarch64_feature_detected!("bf16")
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
fn has_bf16() -> bool {
    false
}

/// Whether a loaded library has the function. The compiler looks for it in the same places.
#[cfg(unix)]
fn exports(function: &std::ffi::CStr) -> bool {
    // SAFETY: the name is a C string, and the address is not used.
    unsafe { !libc::dlsym(libc::RTLD_DEFAULT, function.as_ptr()).is_null() }
}

#[cfg(not(unix))]
fn exports(_function: &std::ffi::CStr) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_functions_that_are_loaded_and_no_others() {
        assert_eq!(exports(c"malloc"), cfg!(unix));
        assert!(!exports(c"__no_such_function_of_a_compiler"));
    }

    #[test]
    fn single_precision_needs_nothing() {
        assert!(rounds_to(DType::F32));
    }
}
