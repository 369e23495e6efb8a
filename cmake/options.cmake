# Compiler flags that all targets share. psc_library(), psc_program() and
# psc_module() are the only ways a target is made, so that none escapes the
# warnings.

set(PSC_SANITIZE "" CACHE STRING "-fsanitize= list for all targets")
option(PSC_HARDEN "Hardening flags for released programs" OFF)
option(PSC_COVERAGE "Instrument for gcov" OFF)
option(PSC_FUZZ "Build the libFuzzer targets (clang only)" OFF)

set(psc_warnings
    -Wall -Wextra -Wconversion -Wshadow -Werror -Wstrict-prototypes
    -Wmissing-prototypes -Wvla -fno-common)
set(psc_hardening
    -fstack-protector-strong -fstack-clash-protection -fcf-protection
    -D_FORTIFY_SOURCE=2)
set(psc_link_hardening
    -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack -Wl,--as-needed)

add_library(psc_flags INTERFACE)
target_compile_features(psc_flags INTERFACE c_std_11)
target_compile_definitions(psc_flags INTERFACE
    _GNU_SOURCE PSC_VERSION="${PROJECT_VERSION}")
target_compile_options(psc_flags INTERFACE ${psc_warnings})
target_include_directories(psc_flags INTERFACE ${PROJECT_SOURCE_DIR})

if(PSC_SANITIZE)
    target_compile_options(psc_flags INTERFACE
        -fsanitize=${PSC_SANITIZE} -fno-omit-frame-pointer
        -fno-sanitize-recover=all)
    target_link_options(psc_flags INTERFACE -fsanitize=${PSC_SANITIZE})
endif()
if(PSC_FUZZ)
    target_compile_options(psc_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
if(PSC_HARDEN)
    target_compile_options(psc_flags INTERFACE ${psc_hardening} -fPIE)
    target_link_options(psc_flags INTERFACE -pie ${psc_link_hardening})
endif()
if(PSC_COVERAGE)
    target_compile_options(psc_flags INTERFACE --coverage)
    target_link_options(psc_flags INTERFACE --coverage)
endif()

# psc_library(NAME SOURCES ... LINK ...)
function(psc_library name)
    cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
    add_library(${name} STATIC ${ARG_SOURCES})
    target_link_libraries(${name} PUBLIC psc_flags ${ARG_LINK})
endfunction()

# psc_program(NAME SOURCES ... LINK ...)
function(psc_program name)
    cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
    add_executable(${name} ${ARG_SOURCES})
    target_link_libraries(${name} PRIVATE psc_flags ${ARG_LINK})
endfunction()

# psc_module(NAME EXPORTS FILE SOURCES ... INCLUDE ...): a shared library that
# a program of somebody else loads. That program has no sanitizers, so it has
# none either. The INCLUDE folders are that program's; FILE is a version script.
function(psc_module name)
    cmake_parse_arguments(ARG "" "EXPORTS" "SOURCES;INCLUDE" ${ARGN})
    add_library(${name} MODULE ${ARG_SOURCES})
    set_target_properties(${name} PROPERTIES
        PREFIX "" LINK_DEPENDS ${ARG_EXPORTS}
        LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)
    target_link_options(${name} PRIVATE
        -Wl,--version-script=${ARG_EXPORTS})
    target_compile_features(${name} PRIVATE c_std_11)
    target_compile_definitions(${name} PRIVATE _GNU_SOURCE)
    target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
    target_include_directories(${name} SYSTEM PRIVATE ${ARG_INCLUDE})
    target_compile_options(${name} PRIVATE ${psc_warnings})
    if(PSC_HARDEN)
        target_compile_options(${name} PRIVATE ${psc_hardening})
        target_link_options(${name} PRIVATE ${psc_link_hardening})
    endif()
endfunction()
