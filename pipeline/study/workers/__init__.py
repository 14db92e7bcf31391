"""Worker processes that train trials one after another, and the driver's side of them."""
