//! AAC (ISO/IEC 14496-3): what a gateway must know of it.
