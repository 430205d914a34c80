//! H.264 (ITU-T H.264, ISO/IEC 14496-15): what a gateway must know of it.
