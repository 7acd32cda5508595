//! What this machine has of CUDA, asked for without a panic where it has none.
//!
//! The CUDA runtime of burn loads its libraries when it is first used and panics where one is missing; worse, without the
//! toolkit's header files a launch fails on a thread of its own and what is read back is garbage. So everything it will
//! need is looked for here first, in this order: the driver, a device, the compiler NVRTC, the header files. Only then is it
//! worth running a kernel ([`try_cuda`]).
//!
//! Nothing here needs the feature `cuda`, nor any library at link time.

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    fmt,
    path::{Path, PathBuf},
};

/// What there is of CUDA on this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CudaReport {
    /// The newest CUDA version the driver serves.
    pub driver: Option<CudaVersion>,
    /// The GPUs the driver shows (`CUDA_VISIBLE_DEVICES` hides some), in its order.
    pub devices: Vec<CudaGpu>,
    /// Version of the kernel compiler NVRTC.
    pub nvrtc: Option<CudaVersion>,
    /// Folder of the toolkit whose `include` has the header files.
    pub toolkit: Option<PathBuf>,
    /// The first thing that is missing; with `None` a trial kernel is worth running.
    pub missing: Option<CudaMissing>,
}

/// A GPU as its driver describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CudaGpu {
    /// What `cuda:N` names it by.
    pub index: usize,
    /// Its product name.
    pub name: String,
    /// Compute capability, major and minor.
    pub compute: (u32, u32),
    /// Bytes of its memory.
    pub total_bytes: u64,
    /// Bytes that nobody uses now; `None` where the driver gave no context to ask in.
    pub free_bytes: Option<u64>,
}

/// Major and minor number of a CUDA release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CudaVersion {
    /// 12 of 12.8.
    pub major: u32,
    /// 8 of 12.8.
    pub minor: u32,
}

/// Why this machine cannot compute on a GPU, with the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CudaMissing {
    /// The program has no CUDA in it.
    #[error("built without CUDA: build with the feature cuda, or use --device cpu")]
    NotBuilt,
    /// No driver library.
    #[error(
        "no NVIDIA driver: libcuda.so.1 cannot be loaded; install the driver, or in a container start it with GPUs"
    )]
    Driver,
    /// The driver has no such call: it is older than any we serve.
    #[error("the NVIDIA driver lacks {symbol}: update it")]
    DriverSymbol {
        /// What was looked for.
        symbol: &'static str,
    },
    /// The driver answers with an error.
    #[error("the NVIDIA driver fails in {call}: {name} ({code}); try nvidia-smi, load the kernel module or restart")]
    DriverCall {
        /// The call.
        call: &'static str,
        /// The driver's name of the error.
        name: String,
        /// Its number.
        code: i32,
    },
    /// No GPU.
    #[error("the NVIDIA driver shows no GPU: check nvidia-smi and CUDA_VISIBLE_DEVICES")]
    NoGpu,
    /// There is no GPU with this number.
    #[error("there is no GPU {index}: the driver shows {count}, counted from 0")]
    Index {
        /// What was asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// The driver is older than the compiler, whose code it would refuse.
    #[error(
        "the driver serves CUDA {driver}, NVRTC is of {nvrtc}: update the driver, or install NVRTC {driver} or older"
    )]
    Older {
        /// What the driver serves.
        driver: CudaVersion,
        /// The compiler's version.
        nvrtc: CudaVersion,
    },
    /// No kernel compiler.
    #[error("libnvrtc.so cannot be loaded: install the CUDA toolkit (NVRTC) and name its lib64 in LD_LIBRARY_PATH")]
    Nvrtc,
    /// No toolkit.
    #[error("no CUDA header files: install the CUDA toolkit and name its folder in CUDA_PATH, or put it at {}", TOOLKITS[0])]
    Toolkit,
    /// A toolkit without some header file.
    #[error("{} is missing: install the CUDA toolkit's headers (cudart and crt), or name another in CUDA_PATH", path.display())]
    Header {
        /// The file.
        path: PathBuf,
    },
    /// A kernel was run and did not do what it should.
    #[error("a trial kernel failed on GPU {index}: {reason}")]
    Trial {
        /// The GPU.
        index: usize,
        /// What happened.
        reason: String,
    },
}

/// Where the CUDA runtime looks for a toolkit when `CUDA_PATH` names none.
const TOOLKITS: [&str; 2] = ["/usr/local/cuda", "/opt/cuda"];

/// What the generated kernels include.
const HEADERS: [&str; 5] = ["cuda_runtime.h", "cuda_fp16.h", "cuda_bf16.h", "mma.h", "crt/mma.h"];

/// Names NVRTC goes by, the runtime's own order.
const NVRTC: [&CStr; 4] = [c"libnvrtc.so", c"libnvrtc.so.13", c"libnvrtc.so.12", c"libnvrtc.so.11"];

/// Looks at everything but runs no kernel. Never panics; takes some tenths of a second for each GPU.
pub fn probe_cuda() -> CudaReport {
    let mut report = CudaReport::default();
    report.missing = look(&mut report).err();
    report
}

/// Runs a kernel on a GPU and compares what it computes: the last word on whether the GPU can be used.
///
/// # Errors
/// [`CudaMissing`], the first thing that is in the way.
pub fn try_cuda(index: usize) -> Result<CudaGpu, CudaMissing> {
    let report = probe_cuda();
    if let Some(missing) = report.missing {
        return Err(missing);
    }
    let count = report.devices.len();
    let gpu = report.devices.into_iter().nth(index).ok_or(CudaMissing::Index { index, count })?;
    #[cfg(feature = "cuda")]
    super::cube::try_device::<cubecl::cuda::CudaRuntime>(&cubecl::cuda::CudaDevice::new(index))
        .map_err(|reason| CudaMissing::Trial { index, reason })?;
    Ok(gpu)
}

fn look(report: &mut CudaReport) -> Result<(), CudaMissing> {
    let driver = Library::open(c"libcuda.so.1").or_else(|| Library::open(c"libcuda.so")).ok_or(CudaMissing::Driver)?;
    let driver = Driver::init(&driver)?;
    report.driver = Some(driver.version()?);
    report.devices = (0..driver.count()?).map(|index| driver.gpu(index)).collect::<Result<_, _>>()?;
    if report.devices.is_empty() {
        return Err(CudaMissing::NoGpu);
    }
    if !cfg!(feature = "cuda") {
        return Err(CudaMissing::NotBuilt);
    }
    let nvrtc = NVRTC.into_iter().find_map(Library::open).ok_or(CudaMissing::Nvrtc)?;
    report.nvrtc = nvrtc_version(&nvrtc);
    // Within a major release a driver takes the code of a newer compiler as long as it asks for nothing new.
    if let (Some(driver), Some(nvrtc)) = (report.driver, report.nvrtc)
        && driver.major < nvrtc.major
    {
        return Err(CudaMissing::Older { driver, nvrtc });
    }
    report.toolkit = Some(toolkit()?);
    Ok(())
}

/// The toolkit the CUDA runtime will take its header files from.
fn toolkit() -> Result<PathBuf, CudaMissing> {
    let named = std::env::var_os("CUDA_PATH").map(PathBuf::from);
    let found = named.or_else(|| TOOLKITS.map(PathBuf::from).into_iter().find(|path| path.exists()));
    let distribution = || Path::new("/usr/bin/nvcc").exists().then(|| PathBuf::from("/usr"));
    let toolkit = found.or_else(distribution).ok_or(CudaMissing::Toolkit)?;
    for header in HEADERS {
        let path = toolkit.join("include").join(header);
        if !path.is_file() {
            return Err(CudaMissing::Header { path });
        }
    }
    Ok(toolkit)
}

fn nvrtc_version(library: &Library) -> Option<CudaVersion> {
    // SAFETY: `nvrtcVersion` has had this signature since CUDA 7.
    let version: unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int = unsafe { library.symbol(c"nvrtcVersion")? };
    let (mut major, mut minor) = (0, 0);
    // SAFETY: both pointers are to integers that live through the call.
    let code = unsafe { version(&mut major, &mut minor) };
    (code == 0).then_some(CudaVersion { major: major.unsigned_abs(), minor: minor.unsigned_abs() })
}

/// A loaded shared library. It stays loaded: the CUDA runtime will use the same one.
struct Library(*mut c_void);

impl Library {
    fn open(name: &CStr) -> Option<Self> {
        // SAFETY: the name ends with a zero; NVIDIA's libraries run nothing harmful when they are loaded.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_LAZY | libc::RTLD_LOCAL) };
        (!handle.is_null()).then_some(Self(handle))
    }

    /// # Safety
    /// `F` is the type of a pointer to the function of this name.
    unsafe fn symbol<F: Copy>(&self, name: &CStr) -> Option<F> {
        // SAFETY: the handle is of `dlopen` and never closed.
        let address = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
        // SAFETY: a function's address, of the size of `F`, which the caller vouches for.
        (!address.is_null()).then(|| unsafe { std::mem::transmute_copy(&address) })
    }
}

/// The driver's calls, of the CUDA Driver API (`cuda.h`); all of them return 0 or the number of an error.
struct Driver<'a> {
    library: &'a Library,
}

type Code = c_int;
type Device = c_int;
type Context = *mut c_void;

/// `CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR` and `_MINOR`.
const COMPUTE_MAJOR: c_int = 75;
const COMPUTE_MINOR: c_int = 76;

macro_rules! call {
    ($driver:expr, $name:ident($($argument:expr => $type:ty),*)) => {{
        let symbol = stringify!($name);
        let name = CString::new(symbol).unwrap_or_default();
        // SAFETY: the signature is that of `cuda.h`.
        let function: Option<unsafe extern "C" fn($($type),*) -> Code> = unsafe { $driver.library.symbol(&name) };
        let function = function.ok_or(CudaMissing::DriverSymbol { symbol })?;
        // SAFETY: pointers are to values that live through the call; `cuInit` came before all others.
        let code = unsafe { function($($argument),*) };
        $driver.check(symbol, code)
    }};
}

impl<'a> Driver<'a> {
    fn init(library: &'a Library) -> Result<Self, CudaMissing> {
        let driver = Self { library };
        match call!(driver, cuInit(0 => u32)) {
            // CUDA_ERROR_NO_DEVICE.
            Err(CudaMissing::DriverCall { code: 100, .. }) => Err(CudaMissing::NoGpu),
            result => result.map(|()| driver),
        }
    }

    fn check(&self, call: &'static str, code: Code) -> Result<(), CudaMissing> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: the signature is that of `cuda.h`.
        let name_of: Option<unsafe extern "C" fn(Code, *mut *const c_char) -> Code> =
            unsafe { self.library.symbol(c"cuGetErrorName") };
        let mut text: *const c_char = std::ptr::null();
        // SAFETY: the pointer lives through the call, which sets it to a constant text or to null.
        let known = name_of.is_some_and(|name_of| unsafe { name_of(code, &mut text) } == 0 && !text.is_null());
        // SAFETY: a constant of the driver that ends with a zero.
        let name =
            if known { unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned() } else { "unknown".into() };
        Err(CudaMissing::DriverCall { call, name, code })
    }

    fn version(&self) -> Result<CudaVersion, CudaMissing> {
        let mut number: c_int = 0;
        call!(self, cuDriverGetVersion(&mut number => *mut c_int))?;
        let number = number.unsigned_abs();
        Ok(CudaVersion { major: number / 1000, minor: number % 1000 / 10 })
    }

    fn count(&self) -> Result<usize, CudaMissing> {
        let mut count: c_int = 0;
        call!(self, cuDeviceGetCount(&mut count => *mut c_int))?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    fn gpu(&self, index: usize) -> Result<CudaGpu, CudaMissing> {
        let mut device: Device = 0;
        let number = c_int::try_from(index).unwrap_or(c_int::MAX);
        call!(self, cuDeviceGet(&mut device => *mut Device, number => c_int))?;
        let mut name = [0 as c_char; 256];
        call!(self, cuDeviceGetName(name.as_mut_ptr() => *mut c_char, 255 => c_int, device => Device))?;
        let mut total_bytes: usize = 0;
        call!(self, cuDeviceTotalMem_v2(&mut total_bytes => *mut usize, device => Device))?;
        let compute = (self.attribute(device, COMPUTE_MAJOR)?, self.attribute(device, COMPUTE_MINOR)?);
        // SAFETY: the driver wrote at most 255 bytes into zeros.
        let name = unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned();
        let free_bytes = self.free_bytes(device).ok();
        Ok(CudaGpu { index, name, compute, total_bytes: total_bytes as u64, free_bytes })
    }

    fn attribute(&self, device: Device, attribute: c_int) -> Result<u32, CudaMissing> {
        let mut value: c_int = 0;
        call!(self, cuDeviceGetAttribute(&mut value => *mut c_int, attribute => c_int, device => Device))?;
        Ok(value.unsigned_abs())
    }

    /// Asks in the device's primary context, the one the CUDA runtime uses too.
    fn free_bytes(&self, device: Device) -> Result<u64, CudaMissing> {
        let mut context: Context = std::ptr::null_mut();
        call!(self, cuDevicePrimaryCtxRetain(&mut context => *mut Context, device => Device))?;
        let free = self.free_bytes_in(context);
        call!(self, cuDevicePrimaryCtxRelease_v2(device => Device))?;
        free
    }

    fn free_bytes_in(&self, context: Context) -> Result<u64, CudaMissing> {
        call!(self, cuCtxPushCurrent_v2(context => Context))?;
        let (mut free, mut total) = (0usize, 0usize);
        let asked = call!(self, cuMemGetInfo_v2(&mut free => *mut usize, &mut total => *mut usize));
        let mut popped: Context = std::ptr::null_mut();
        call!(self, cuCtxPopCurrent_v2(&mut popped => *mut Context))?;
        asked.map(|()| free as u64)
    }
}

impl fmt::Display for CudaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_what_is_missing_and_a_trial_agrees_with_it() {
        let report = probe_cuda();
        assert_eq!(report, probe_cuda(), "asked twice");
        assert!(report.missing.is_some() || !report.devices.is_empty() && report.toolkit.is_some());
        let count = report.devices.len();
        match (&report.missing, try_cuda(count)) {
            (Some(missing), tried) => assert_eq!(tried.as_ref(), Err(missing)),
            (None, tried) => assert_eq!(tried, Err(CudaMissing::Index { index: count, count })),
        }
    }

    #[test]
    fn every_missing_part_comes_with_its_remedy() {
        let version = CudaVersion { major: 12, minor: 8 };
        assert_eq!(version.to_string(), "12.8");
        for missing in
            [CudaMissing::NotBuilt, CudaMissing::Driver, CudaMissing::NoGpu, CudaMissing::Nvrtc, CudaMissing::Toolkit]
        {
            let text = missing.to_string();
            assert!(text.contains(": "), "{text}");
            assert!(["install", "build", "check"].iter().any(|verb| text.contains(verb)), "{text}");
        }
    }
}
