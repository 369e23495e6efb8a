# cmake -DOUTPUT=x.c -DFOLDER=sql/migrations -P embed_sql.cmake
#
# Write a C file that holds every NNN_name.sql of FOLDER as a byte array, in
# order of NNN, and checks that the numbers have no holes.
file(GLOB files ${FOLDER}/*.sql)
list(SORT files)

set(arrays "")
set(rows "")
set(count 0)
foreach(file ${files})
    get_filename_component(name ${file} NAME)
    math(EXPR count "${count} + 1")
    if(NOT name MATCHES "^([0-9][0-9][0-9])_[a-z_0-9]+\\.sql$")
        message(FATAL_ERROR "${file}: migrations are called NNN_name.sql")
    endif()
    math(EXPR number "1${CMAKE_MATCH_1} - 1000")
    if(NOT number EQUAL count)
        message(FATAL_ERROR "${file}: number ${count} is missing or doubled")
    endif()
    file(READ ${file} bytes HEX)
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
    string(APPEND arrays
        "static const unsigned char sql_${count}[] = {${bytes}0};\n")
    string(APPEND rows "    {${count}, \"${name}\", sql_${count}},\n")
endforeach()

file(WRITE ${OUTPUT}
"/* Made by cmake/embed_sql.cmake from sql/migrations. */
#include \"sql/migrate.h\"

${arrays}
const struct migration migrations[] = {
${rows}};
const size_t n_migrations = ${count};
")
