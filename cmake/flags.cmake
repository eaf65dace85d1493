# Compiler flags for every target of the tree, collected on one interface library.
add_library(sluice_flags_compile INTERFACE)
target_include_directories(sluice_flags_compile INTERFACE ${CMAKE_SOURCE_DIR}/src)
target_compile_definitions(sluice_flags_compile INTERFACE _GNU_SOURCE SLUICE_VERSION="${PROJECT_VERSION}")
target_compile_options(sluice_flags_compile INTERFACE
  -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wcast-qual
  -Wwrite-strings -Wundef -Wvla -Wformat=2 -Wdouble-promotion -fno-common -fno-strict-aliasing -g
  # Verdicts must be the same bits on every build: no fused multiply-add, no reordering.
  -ffp-contract=off)
if(SLUICE_WERROR)
  target_compile_options(sluice_flags_compile INTERFACE -Werror)
endif()
if(SLUICE_SANITIZE)
  target_compile_options(sluice_flags_compile INTERFACE -fsanitize=${SLUICE_SANITIZE} -fno-omit-frame-pointer
    -fno-sanitize-recover=all)
  target_link_options(sluice_flags_compile INTERFACE -fsanitize=${SLUICE_SANITIZE})
endif()
if(SLUICE_FUZZ)
  # The fuzzed code itself must report its edges, not only the fuzzer's entry point.
  target_compile_options(sluice_flags_compile INTERFACE -fsanitize=fuzzer-no-link)
endif()
if(SLUICE_COVERAGE)
  target_compile_options(sluice_flags_compile INTERFACE --coverage)
  target_link_options(sluice_flags_compile INTERFACE --coverage)
endif()
if(CMAKE_BUILD_TYPE STREQUAL "Release")
  target_compile_options(sluice_flags_compile INTERFACE -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fPIE)
  target_link_options(sluice_flags_compile INTERFACE -pie -Wl,-z,relro,-z,now -Wl,-z,noexecstack)
endif()
