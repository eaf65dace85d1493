# libsluice-flags as it is installed: one shared and one static library that show nothing but sluice_flags_*,
# built apart from the modules (position-independent, never with sanitizers, so that any program can use it).
include(GNUInstallDirs)
file(GLOB library_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/base/*.c ${CMAKE_SOURCE_DIR}/src/flags/eval/*.c
  ${CMAKE_SOURCE_DIR}/src/flags/share/*.c ${CMAKE_SOURCE_DIR}/src/flags/library/*.c)
get_target_property(library_options sluice_flags_compile INTERFACE_COMPILE_OPTIONS)
list(FILTER library_options EXCLUDE REGEX "sanitize|-fPIE|--coverage|omit-frame-pointer")

add_library(libsluice_flags_objects OBJECT EXCLUDE_FROM_ALL ${library_sources})
target_include_directories(libsluice_flags_objects PRIVATE ${CMAKE_SOURCE_DIR}/src)
target_compile_definitions(libsluice_flags_objects PRIVATE _GNU_SOURCE SLUICE_VERSION="${PROJECT_VERSION}")
target_compile_options(libsluice_flags_objects PRIVATE ${library_options} -O2)
set_target_properties(libsluice_flags_objects PROPERTIES POSITION_INDEPENDENT_CODE ON C_VISIBILITY_PRESET hidden)

add_library(libsluice_flags SHARED $<TARGET_OBJECTS:libsluice_flags_objects>)
target_link_libraries(libsluice_flags PRIVATE m Threads::Threads)
target_link_options(libsluice_flags PRIVATE -Wl,-z,relro,-z,now,-z,noexecstack,-z,defs)
set_target_properties(libsluice_flags PROPERTIES OUTPUT_NAME sluice-flags SOVERSION 0 VERSION ${PROJECT_VERSION}
  LINKER_LANGUAGE C)

# One object with the hidden names made local, so that the modules' names cannot meet the program's.
set(library_archive ${CMAKE_CURRENT_BINARY_DIR}/libsluice-flags.a)
add_custom_command(OUTPUT ${library_archive}
  COMMAND ${CMAKE_LINKER} -r -o sluice-flags-one.o $<TARGET_OBJECTS:libsluice_flags_objects>
  COMMAND ${CMAKE_OBJCOPY} --localize-hidden sluice-flags-one.o
  COMMAND ${CMAKE_COMMAND} -E rm -f ${library_archive}
  COMMAND ${CMAKE_AR} qcs ${library_archive} sluice-flags-one.o
  DEPENDS libsluice_flags_objects $<TARGET_OBJECTS:libsluice_flags_objects>
  COMMAND_EXPAND_LISTS VERBATIM)
add_custom_target(libsluice_flags_static ALL DEPENDS ${library_archive})

# The prefix is told relative to the file, so that an install tree may be moved.
file(RELATIVE_PATH SLUICE_PC_PREFIX /x/${CMAKE_INSTALL_LIBDIR}/pkgconfig /x)
configure_file(${CMAKE_SOURCE_DIR}/src/flags/library/sluice-flags.pc.in sluice-flags.pc @ONLY)
install(TARGETS libsluice_flags COMPONENT flags LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES ${library_archive} DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT flags)
install(FILES ${CMAKE_SOURCE_DIR}/src/flags/library/sluice_flags.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT flags)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/sluice-flags.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT flags)
install(FILES ${CMAKE_SOURCE_DIR}/docs/libsluice-flags.3 DESTINATION ${CMAKE_INSTALL_MANDIR}/man3 COMPONENT flags)
