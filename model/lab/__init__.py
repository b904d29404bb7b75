"""The laboratory: simulations and studies. The product never imports it."""
