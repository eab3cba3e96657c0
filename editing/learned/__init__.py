"""The trained networks behind MEND and MALMEN: data, network, training, files, the command."""
