# What belongs to the program as it is installed, beside libsluice-flags: completions where the three shells look for
# them, the schema that editors take, examples to start from.
install(TARGETS sluice)
install(FILES docs/sluice.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES docs/completions/sluice.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME sluice)
install(FILES docs/completions/sluice.zsh DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions RENAME _sluice)
install(FILES docs/completions/sluice.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
install(FILES docs/sluice.schema.json DESTINATION ${CMAKE_INSTALL_DATADIR}/sluice)
install(FILES examples/minimal.yaml examples/full.yaml examples/flags.yaml examples/flags.json
  DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
